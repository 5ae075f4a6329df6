import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.TimeUnit;
import software.amazon.awssdk.auth.credentials.AwsBasicCredentials;
import software.amazon.awssdk.auth.credentials.StaticCredentialsProvider;
import software.amazon.awssdk.http.Protocol;
import software.amazon.awssdk.http.nio.netty.NettyNioAsyncHttpClient;
import software.amazon.awssdk.regions.Region;
import software.amazon.awssdk.services.cloudwatch.CloudWatchAsyncClient;
import software.amazon.awssdk.services.dynamodb.DynamoDbAsyncClient;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.kinesis.common.ConfigsBuilder;
import software.amazon.kinesis.common.InitialPositionInStream;
import software.amazon.kinesis.common.InitialPositionInStreamExtended;
import software.amazon.kinesis.coordinator.Scheduler;
import software.amazon.kinesis.lifecycle.events.InitializationInput;
import software.amazon.kinesis.lifecycle.events.LeaseLostInput;
import software.amazon.kinesis.lifecycle.events.ProcessRecordsInput;
import software.amazon.kinesis.lifecycle.events.ShardEndedInput;
import software.amazon.kinesis.lifecycle.events.ShutdownRequestedInput;
import software.amazon.kinesis.metrics.NullMetricsFactory;
import software.amazon.kinesis.processor.ShardRecordProcessor;
import software.amazon.kinesis.processor.ShardRecordProcessorFactory;
import software.amazon.kinesis.retrieval.KinesisClientRecord;
import software.amazon.kinesis.retrieval.polling.PollingConfig;

/** A worker of the KCL that prints what it does, and ends when a q comes in. */
public class KclWorker {
  static class Printer implements ShardRecordProcessor {
    private String shard;

    public void initialize(InitializationInput input) {
      shard = input.shardId();
      System.out.println("INIT " + shard);
    }

    public void processRecords(ProcessRecordsInput input) {
      for (KinesisClientRecord record : input.records()) {
        System.out.println("RECORD " + shard + " " + StandardCharsets.UTF_8.decode(record.data().duplicate()));
      }
      try {
        input.checkpointer().checkpoint();
      } catch (Exception error) {
        System.out.println("CHECKPOINT-FAILED " + shard + " " + error.getClass().getSimpleName());
      }
    }

    public void leaseLost(LeaseLostInput input) {
      System.out.println("LOST " + shard);
    }

    public void shardEnded(ShardEndedInput input) {
      try {
        input.checkpointer().checkpoint();
      } catch (Exception error) {
        System.out.println("CHECKPOINT-FAILED " + shard + " " + error.getClass().getSimpleName());
      }
    }

    public void shutdownRequested(ShutdownRequestedInput input) {
      try {
        input.checkpointer().checkpoint();
      } catch (Exception error) {
        System.out.println("CHECKPOINT-FAILED " + shard + " " + error.getClass().getSimpleName());
      }
    }
  }

  public static void main(String[] args) throws Exception {
    String stream = args[2];
    var credentials = StaticCredentialsProvider.create(AwsBasicCredentials.create("test", "test"));
    var http = NettyNioAsyncHttpClient.builder().protocol(Protocol.HTTP1_1).build();
    var kinesis = KinesisAsyncClient.builder().region(Region.US_EAST_1).credentialsProvider(credentials)
        .endpointOverride(URI.create(args[0])).httpClient(http).build();
    var dynamodb = DynamoDbAsyncClient.builder().region(Region.US_EAST_1).credentialsProvider(credentials)
        .endpointOverride(URI.create(args[1])).build();
    var cloudwatch = CloudWatchAsyncClient.builder().region(Region.US_EAST_1)
        .credentialsProvider(credentials).build();
    ShardRecordProcessorFactory factory = Printer::new;
    var configs = new ConfigsBuilder(stream, args[3], kinesis, dynamodb, cloudwatch, args[4], factory);
    var position = InitialPositionInStreamExtended
        .newInitialPosition(InitialPositionInStream.TRIM_HORIZON);
    var scheduler = new Scheduler(
        configs.checkpointConfig(),
        configs.coordinatorConfig().parentShardPollIntervalMillis(1000),
        configs.leaseManagementConfig().failoverTimeMillis(3000).shardSyncIntervalMillis(1000)
            .initialPositionInStream(position),
        configs.lifecycleConfig(),
        configs.metricsConfig().metricsFactory(new NullMetricsFactory()),
        configs.processorConfig(),
        configs.retrievalConfig().retrievalSpecificConfig(new PollingConfig(stream, kinesis))
            .initialPositionInStreamExtended(position));
    new Thread(scheduler).start();
    int input;
    do {
      input = System.in.read();
    } while (input >= 0 && input != 'q');
    scheduler.startGracefulShutdown().get(60, TimeUnit.SECONDS);
    System.exit(0);
  }
}
