import { defineConfig } from 'tsup';

import { libraryPreset } from '../../tsup.preset.js';

export default defineConfig({
  ...libraryPreset,
  entry: ['src/index.ts', 'src/testing/index.ts'],
});
