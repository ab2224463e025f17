// What was learned of the way to a server. It outlives a connection: the next one shouldn't have to
// learn it again. A network changes, so a lesson is forgotten after a while, or when the browser says
// that it is online again.

const LIFETIME = 5 * 60_000;

interface Lesson {
  /** Milliseconds after which a poll is to be answered. */
  pollWait?: number;
  /** A stream was held back, or cut again and again. */
  streamingFails?: true;
}

const lessons = new Map<string, { lesson: Lesson; until: number }>();

/** What is known of the way to this server. */
export function known(server: string): Readonly<Lesson> {
  const entry = lessons.get(server);
  if (entry && entry.until > Date.now()) return entry.lesson;
  lessons.delete(server);
  return {};
}

export function learn(server: string, lesson: Lesson): void {
  lessons.set(server, { lesson: { ...known(server), ...lesson }, until: Date.now() + LIFETIME });
}

/** Forgets all that was learned, as after a change of the network. */
export function forget(): void {
  lessons.clear();
}

if (typeof addEventListener === "function") addEventListener("online", forget);
