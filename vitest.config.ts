import { defineConfig } from 'vitest/config';

// No `import` and no `module`: Node gets the list too, and would load ES modules where CommonJS asks.
const conditions = ['@shardline/source', 'node'];

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions, externalConditions: conditions } },
  test: {
    include: ['packages/*/test/**/*.test.ts', 'test/**/*.test.ts', 'examples/**/*.vitest.test.ts'],
    environment: 'node',
    // Tests over sockets wait for back-offs and failovers.
    testTimeout: 20_000,
    restoreMocks: true,
    unstubEnvs: true,
  },
});
