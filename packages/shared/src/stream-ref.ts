import { textOption } from './validate.js';

/** A stream as requests name it. */
export interface StreamRef {
  readonly name: string;
  /** Present if the user gave it; then requests use it, for streams of other accounts. */
  readonly arn: string | undefined;
}

/**
 * Reads the options `streamName` and `streamArn`, of which one is needed.
 *
 * @throws ShardlineError `INVALID_OPTION`.
 */
export function resolveStreamRef(options: {
  readonly streamName?: string;
  readonly streamArn?: string;
}): StreamRef {
  if (options.streamArn === undefined) {
    const name = textOption(
      'streamName',
      options.streamName,
      /^[a-zA-Z0-9_.-]{1,128}$/,
      '1 to 128 characters of a-z A-Z 0-9 _ . -',
    );
    return { name, arn: undefined };
  }
  const arn = textOption(
    'streamArn',
    options.streamArn,
    /^arn:aws.*:kinesis:.*:\d{12}:stream\/\S+$/,
    'the ARN of a stream',
  );
  return { name: arn.slice(arn.indexOf('/') + 1), arn };
}

/** How requests name the stream. */
export function streamInput({
  name,
  arn,
}: StreamRef): { StreamName: string } | { StreamARN: string } {
  return arn === undefined ? { StreamName: name } : { StreamARN: arn };
}
