import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';

import type { ConsumerStatus } from '@shardline/consumer';

import type { ChildConfig, ChildMessage } from './messages.js';

/** A process of the demo. */
export interface Member {
  readonly name: string;
  readonly process: ChildProcess;
  status: ConsumerStatus | undefined;
  isRunning: boolean;
}

/** The processes of the demo: they run apart, and can be killed. */
export class Fleet {
  readonly members: Member[] = [];
  readonly #common: Omit<ChildConfig, 'name' | 'retrieval'>;
  readonly #onMessage: (member: Member, message: ChildMessage) => void;

  constructor(
    common: Omit<ChildConfig, 'name' | 'retrieval'>,
    onMessage: (member: Member, message: ChildMessage) => void,
  ) {
    this.#common = common;
    this.#onMessage = onMessage;
  }

  start(script: 'producer' | 'worker', name: string, retrieval: ChildConfig['retrieval']): Member {
    const config: ChildConfig = { ...this.#common, name, retrieval };
    const child = fork(fileURLToPath(new URL(`./${script}.ts`, import.meta.url)), {
      env: { ...process.env, NODE_NO_WARNINGS: '1', DEMO_CHILD: JSON.stringify(config) },
    });
    const member: Member = { name, process: child, status: undefined, isRunning: true };
    this.members.push(member);
    child.on('message', (message) => {
      const told = message as ChildMessage;
      if (told.kind === 'status') member.status = told.status;
      this.#onMessage(member, told);
    });
    child.on('exit', () => (member.isRunning = false));
    return member;
  }

  /** Ends all workers as a deployment would, and waits until they are gone. */
  async stop(): Promise<void> {
    await Promise.all(
      this.members.map(
        ({ process: child, isRunning }) =>
          new Promise<void>((resolve) => {
            if (!isRunning) {
              resolve();
              return;
            }
            child.once('exit', () => resolve());
            child.kill('SIGTERM');
          }),
      ),
    );
  }

  killAll(): void {
    for (const { process: child } of this.members) child.kill('SIGKILL');
  }
}
