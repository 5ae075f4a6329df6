import type { KinesisEngine, Operation, Output } from '../engine.js';
import { inUse, notFound, ServiceFault } from '../service-fault.js';
import type { Input } from '../validation.js';

const DEFAULT_PAGE = 100;

/** A delivery of an on-demand stream to object storage: kept and described, never carried out here. */
export interface Channel {
  readonly name: string;
  readonly arn: string;
  readonly createdAt: number;
  /** The request that made it, with later changes laid over it. */
  configuration: Input;
}

export const channelOperations: Readonly<Record<string, Operation>> = {
  CreateChannel(engine, input) {
    const name = input['ChannelName'] as string;
    const [first] = input['StreamConfigurationList'] as readonly { StreamARN: string }[];
    const stream = engine.stream({ StreamARN: first?.StreamARN });
    if (stream.mode !== 'ON_DEMAND') {
      throw new ServiceFault(
        'ValidationException',
        `Stream ${stream.birth.name} is not in on-demand mode.`,
      );
    }
    const arn = `arn:aws:kinesis:${engine.region}:${engine.accountId}:channel/${name}`;
    if (engine.channels.has(arn)) throw inUse(`Channel ${name} already exists.`);
    const channel: Channel = { name, arn, createdAt: engine.now(), configuration: input };
    engine.channels.set(arn, channel);
    return { ChannelDescription: describe(engine, channel) };
  },

  DescribeChannel: (engine, input) => ({
    ChannelDescription: describe(engine, find(engine, input)),
  }),

  UpdateChannel(engine, input) {
    const channel = find(engine, input);
    const { ChannelARN: _, ...changes } = input;
    const merged: Record<string, unknown> = { ...channel.configuration };
    for (const [name, change] of Object.entries(changes)) {
      merged[name] = { ...(merged[name] as object | undefined), ...(change as object) };
    }
    channel.configuration = merged;
    return { ChannelDescription: describe(engine, channel) };
  },

  DeleteChannel(engine, input) {
    engine.channels.delete(find(engine, input).arn);
    return {};
  },

  ListChannels(engine, input) {
    const after = (input['NextToken'] as string | undefined) ?? '';
    const limit = Math.min(
      (input['MaxResults'] as number | undefined) ?? DEFAULT_PAGE,
      DEFAULT_PAGE,
    );
    const channels = [...engine.channels.values()]
      .filter(({ arn }) => arn > after)
      .sort((a, b) => (a.arn < b.arn ? -1 : 1));
    return {
      ChannelSummaries: channels.slice(0, limit).map((channel) => {
        const {
          ChannelName,
          ChannelARN,
          ChannelId,
          ChannelStatus,
          ChannelCreationTimestamp,
          StreamConfigurationList,
        } = describe(engine, channel);
        return {
          ChannelName,
          ChannelARN,
          ChannelId,
          ChannelStatus,
          ChannelCreationTimestamp,
          ChannelDestinationType: channel.configuration['S3TablesDestinationConfiguration']
            ? 'S3_TABLES'
            : 'S3',
          Streams: (StreamConfigurationList as Output[]).map(
            ({ StreamARN, StreamCreationTimestamp }) => ({ StreamARN, StreamCreationTimestamp }),
          ),
        };
      }),
      ...(channels.length > limit && { NextToken: channels[limit - 1]?.arn }),
    };
  },
};

function find(engine: KinesisEngine, input: Input): Channel {
  const arn = input['ChannelARN'] as string;
  const channel = engine.channels.get(arn);
  if (channel) return channel;
  throw notFound(`Channel ${arn} not found.`);
}

function describe(engine: KinesisEngine, channel: Channel): Output {
  const { Tags: _, StreamConfigurationList, ...configuration } = channel.configuration;
  return {
    ...configuration,
    ChannelARN: channel.arn,
    ChannelId: channel.name,
    ChannelStatus: 'ACTIVE',
    ChannelCreationTimestamp: new Date(channel.createdAt),
    StreamConfigurationList: (StreamConfigurationList as { StreamARN: string }[]).map(
      (configured) => {
        const name = configured.StreamARN.slice(configured.StreamARN.indexOf('/') + 1);
        const createdAt = engine.streams.get(name)?.birth.createdAt ?? channel.createdAt;
        return { ...configured, StreamCreationTimestamp: new Date(createdAt) };
      },
    ),
    LoggingConfiguration: configuration['LoggingConfiguration'] ?? {
      CloudWatchLogs: { Enabled: false },
    },
  };
}
