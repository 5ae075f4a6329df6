import { measure, type LoneContender, type Role, type Run } from './harness.js';

/** A contender's process: a run for each message, until the parent lets go of it. */
const role = JSON.parse(process.argv[2] as string) as Role;
const module = (await import(role.module)) as Record<
  string,
  (setting: unknown) => readonly LoneContender[]
>;
const contender = module[role.contendersOf]?.(role.setting)[role.index];
const run = (await contender?.start()) as Run;
process.on('message', () => {
  void measure(run).then((sample) => process.send?.(sample));
});
process.on('disconnect', () => process.exit());
process.send?.('ready');
