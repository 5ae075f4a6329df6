/** The package's own types need the AWS SDK of version 2 and lack the aggregator. */
declare module 'aws-kinesis-agg' {
  interface PeerRecord {
    readonly partitionKey: string;
    readonly data: Buffer;
  }

  export class RecordAggregator {
    calculateUserRecordSize(record: PeerRecord): number;
    addUserRecord(record: PeerRecord): void;
    build(): { readonly data: Buffer };
  }

  export function deaggregateSync(
    record: { readonly data: string },
    computeChecksums: boolean,
    done: (error: Error | undefined, records?: readonly { readonly data: string }[]) => void,
  ): void;
}
