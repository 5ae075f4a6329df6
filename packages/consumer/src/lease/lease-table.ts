import type { AttributeValue } from '@aws-sdk/client-dynamodb';

/** A row, in DynamoDB's own notation of values. Its key is the attribute `leaseKey`, a text. */
export type Row = Record<string, AttributeValue>;

/** What must hold of a row: an attribute has this value, or there is none. */
export type Conditions = Readonly<Record<string, AttributeValue | 'absent'>>;

/** What becomes of a row's attributes; those it does not name stay as they are. */
export interface Change {
  readonly set?: Readonly<Row>;
  readonly remove?: readonly string[];
  /** Numbers to add to, from 0, and sets to add elements to. */
  readonly add?: Readonly<Row>;
  /** Sets to take elements out of. */
  readonly take?: Readonly<Row>;
}

/** What became of a conditional write. */
export interface Outcome {
  readonly isDone: boolean;
  /** The row as it is after the write; if the conditions did not hold, as it is now. */
  readonly row: Row | undefined;
}

/**
 * Where the rows of an application are kept: a DynamoDB table, or anything with rows of attributes and
 * writes to one row that happen only if conditions hold. `leaseTableContract` tells whether an
 * implementation will do. Calls throw what the way to the table threw; a write that threw may have
 * happened.
 */
export interface LeaseTable {
  /** Creates what is missing and resolves when it can be used. */
  prepare(signal: AbortSignal): Promise<void>;
  /**
   * Rows whose keys begin with a prefix.
   *
   * @param isConsistent - With all writes that were acknowledged before; else the latest may be missing.
   */
  scan(keyPrefix: string, isConsistent: boolean): Promise<readonly Row[]>;
  /** One row, with all writes that were acknowledged. */
  get(leaseKey: string): Promise<Row | undefined>;
  /** Those of several rows that there are, in any order; may miss the latest writes. */
  getMany(leaseKeys: readonly string[]): Promise<readonly Row[]>;
  /** Writes a new row. False if there is one of its key. */
  create(row: Row): Promise<boolean>;
  /** Changes a row if it exists and the conditions hold. */
  update(leaseKey: string, change: Change, conditions: Conditions): Promise<Outcome>;
  /** Deletes a row if the conditions hold. False if it is still there. */
  delete(leaseKey: string, conditions?: Conditions): Promise<boolean>;
  /**
   * Keys of the leases a worker is named in, by an index, if there is one; may miss the latest writes.
   * Undefined if there is none.
   */
  keysOf?(workerId: string): Promise<readonly string[] | undefined>;
  /**
   * Another table whose name begins with this one's, if it exists; KCL 3.0 to 3.4 keep rows in such.
   *
   * @param keyName - The attribute that is its key, given and taken as `leaseKey` here.
   */
  sideTable?(suffix: string, keyName: string): Promise<LeaseTable | undefined>;
  close(): void;
}
