/** An error the service answers with, under its own name. */
export class ServiceFault extends Error {
  override readonly name: string;
  /** HTTP status: 400 for what the caller did, 500 and up for what the service did. */
  readonly status: number;

  constructor(name: string, message: string, status = 400) {
    super(message);
    this.name = name;
    this.status = status;
  }
}

export const invalidArgument = (message: string): ServiceFault =>
  new ServiceFault('InvalidArgumentException', message);

export const notFound = (message: string): ServiceFault =>
  new ServiceFault('ResourceNotFoundException', message);

export const inUse = (message: string): ServiceFault =>
  new ServiceFault('ResourceInUseException', message);
