/** Major types. @see https://www.rfc-editor.org/rfc/rfc8949#section-3.1 */
export const UNSIGNED = 0;
export const NEGATIVE = 1;
export const BYTES = 2;
export const TEXT = 3;
export const ARRAY = 4;
export const MAP = 5;
export const TAG = 6;

/** Timestamps: tag 1, but in milliseconds, as the service and its clients write it. */
export const TIMESTAMP_TAG = 1;

/** As the service names AWS CBOR 1.1: what it takes in JSON, with blobs as byte strings. */
export const CBOR_CONTENT_TYPE = 'application/x-amz-cbor-1.1';
