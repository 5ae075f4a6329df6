import type { AttributeValue } from '@aws-sdk/client-dynamodb';

import type { Change, Conditions, LeaseTable, Outcome, Row } from './lease-table.js';

/** Rows in this process, under the conditions a table would check: for tests and single processes. */
export class MemoryLeaseTable implements LeaseTable {
  readonly #rows = new Map<string, Row>();

  prepare(): Promise<void> {
    return Promise.resolve();
  }

  scan(keyPrefix: string): Promise<readonly Row[]> {
    return Promise.resolve(
      [...this.#rows].filter(([key]) => key.startsWith(keyPrefix)).map(([, row]) => row),
    );
  }

  get(leaseKey: string): Promise<Row | undefined> {
    return Promise.resolve(this.#rows.get(leaseKey));
  }

  getMany(leaseKeys: readonly string[]): Promise<readonly Row[]> {
    const rows = leaseKeys.map((key) => this.#rows.get(key));
    return Promise.resolve(rows.filter((row) => row !== undefined));
  }

  create(row: Row): Promise<boolean> {
    const leaseKey = row['leaseKey']?.S ?? '';
    const isNew = !this.#rows.has(leaseKey);
    if (isNew) this.#rows.set(leaseKey, row);
    return Promise.resolve(isNew);
  }

  update(leaseKey: string, change: Change, conditions: Conditions): Promise<Outcome> {
    const row = this.#rows.get(leaseKey);
    if (!row || !holds(row, conditions)) return Promise.resolve({ isDone: false, row });
    const changed = changedRow(row, change);
    this.#rows.set(leaseKey, changed);
    return Promise.resolve({ isDone: true, row: changed });
  }

  delete(leaseKey: string, conditions: Conditions = {}): Promise<boolean> {
    const row = this.#rows.get(leaseKey);
    const isDone = !row || holds(row, conditions);
    if (isDone) this.#rows.delete(leaseKey);
    return Promise.resolve(isDone);
  }

  close(): void {}
}

function holds(row: Row, conditions: Conditions): boolean {
  return Object.entries(conditions).every(([name, wanted]) =>
    wanted === 'absent' ? row[name] === undefined : isSameValue(row[name], wanted),
  );
}

function isSameValue(a: AttributeValue | undefined, b: AttributeValue): boolean {
  if (a?.N !== undefined && b.N !== undefined) return Number(a.N) === Number(b.N);
  return JSON.stringify(a) === JSON.stringify(b);
}

function changedRow(row: Row, { set = {}, remove = [], add = {}, take = {} }: Change): Row {
  const changed: Row = { ...row, ...set };
  for (const name of remove) delete changed[name];
  for (const [name, value] of Object.entries(add)) changed[name] = sum(row[name], value);
  for (const [name, value] of Object.entries(take)) {
    const left = (row[name]?.SS ?? []).filter((element) => !value.SS?.includes(element));
    // As in DynamoDB, there are no empty sets.
    if (left.length > 0) changed[name] = { SS: left };
    else delete changed[name];
  }
  return changed;
}

function sum(before: AttributeValue | undefined, more: AttributeValue): AttributeValue {
  if (more.SS) return { SS: [...new Set([...(before?.SS ?? []), ...more.SS])] };
  return { N: String(Number(before?.N ?? 0) + Number(more.N)) };
}
