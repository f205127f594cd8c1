/** Programs on events of sockets: run when a group tells of one, and the sockets that they put into maps. */
import { UserspaceMap } from './map.ts';
import type { SocketGroup } from './socket-group.ts';
import type { SocketProgram } from './socket-program.ts';

/** Runs a program on the events of a group until the result is called. A program that traps ends the connection with the trap. */
export function listenToEvents(program: SocketProgram, group: SocketGroup): () => void {
  program.hold();
  const leave = group.listen((tap, operation) => {
    try {
      const event = { operation, socket: tap.number, programs: tap.programs };
      const { added } = program.runOnSocket({ ends: tap.socket, event });
      for (const { map, key } of added) if (map instanceof UserspaceMap) map.adoptSocket(key, tap);
    } catch (error) {
      tap.socket.destroy(error as Error);
    }
  });
  return () => {
    leave();
    program.release();
  };
}
