import type { KinesisEngine, Operation, Output } from '../engine.js';
import { inUse, invalidArgument, notFound, ServiceFault } from '../service-fault.js';
import type { Stream, StreamConsumer } from '../stream.js';
import { addTags } from './settings.js';

const DEFAULT_PAGE = 100;

export const consumerOperations: Readonly<Record<string, Operation>> = {
  RegisterStreamConsumer(engine, input) {
    const stream = engine.stream(input);
    stream.requireStatus('ACTIVE', 'UPDATING');
    const name = input['ConsumerName'] as string;
    if (stream.consumers.has(name)) {
      throw inUse(
        `Consumer ${name} under stream ${stream.birth.name} already exists for account ${engine.accountId}.`,
      );
    }
    const { consumersPerStream, creatingAtOnce } = engine.limits;
    const creating = [...stream.consumers.values()].filter(({ status }) => status === 'CREATING');
    if (stream.consumers.size >= consumersPerStream || creating.length >= creatingAtOnce) {
      throw new ServiceFault(
        'LimitExceededException',
        `Stream ${stream.birth.name} under account ${engine.accountId} has the most consumers allowed: ${consumersPerStream}, ${creatingAtOnce} of them being created.`,
      );
    }
    const createdAt = engine.now();
    const consumer: StreamConsumer = {
      name,
      arn: `${stream.birth.arn}/consumer/${name}:${Math.floor(createdAt / 1000)}`,
      createdAt,
      status: 'CREATING',
      tags: new Map(),
    };
    addTags(consumer.tags, (input['Tags'] as Record<string, string> | undefined) ?? {});
    stream.consumers.set(name, consumer);
    const answer = describe(consumer);
    engine.later(() => {
      consumer.status = 'ACTIVE';
    });
    return { Consumer: answer };
  },

  DescribeStreamConsumer(engine, input) {
    const { stream, consumer } = find(engine, input);
    return { ConsumerDescription: { ...describe(consumer), StreamARN: stream.birth.arn } };
  },

  DeregisterStreamConsumer(engine, input) {
    const { stream, consumer } = find(engine, input);
    consumer.status = 'DELETING';
    engine.later(() => {
      stream.consumers.delete(consumer.name);
      for (const { key, subscription } of engine.subscriptions.active()) {
        if (key.startsWith(`${consumer.arn} `)) {
          subscription.end(notFound(`Consumer ${consumer.arn} not found.`));
        }
      }
    });
    return {};
  },

  ListStreamConsumers(engine, input) {
    const stream = engine.stream(input);
    const after = (input['NextToken'] as string | undefined) ?? '';
    const limit = Math.min(
      (input['MaxResults'] as number | undefined) ?? DEFAULT_PAGE,
      DEFAULT_PAGE,
    );
    const consumers = [...stream.consumers.values()]
      .filter((consumer) => consumer.name > after)
      .sort((a, b) => (a.name < b.name ? -1 : 1));
    return {
      Consumers: consumers.slice(0, limit).map(describe),
      ...(consumers.length > limit && { NextToken: consumers[limit - 1]?.name }),
    };
  },
};

function find(
  engine: KinesisEngine,
  input: Output,
): { readonly stream: Stream; readonly consumer: StreamConsumer } {
  const arn = input['ConsumerARN'] as string | undefined;
  if (arn !== undefined) return engine.consumerByArn(arn);
  const name = input['ConsumerName'] as string | undefined;
  if (name === undefined || input['StreamARN'] === undefined) {
    throw invalidArgument('Either ConsumerARN, or StreamARN and ConsumerName should be provided.');
  }
  const stream = engine.stream(input);
  const consumer = stream.consumers.get(name);
  if (consumer) return { stream, consumer };
  throw notFound(
    `Consumer ${name} under stream ${stream.birth.name} not found for account ${engine.accountId}.`,
  );
}

function describe(consumer: StreamConsumer): Output {
  return {
    ConsumerName: consumer.name,
    ConsumerARN: consumer.arn,
    ConsumerStatus: consumer.status,
    ConsumerCreationTimestamp: new Date(consumer.createdAt),
  };
}
