// An incremental parser of `text/event-stream`, for what the server sends: lines end with LF.

/** What stands between two empty lines; a comment or an unknown field leaves no trace. */
export interface StreamEvent {
  id?: string;
  event?: string;
  data?: string;
}

/** Takes the bytes as they come, split anywhere, and gives the events that have become whole. */
export class EventStreamParser {
  private readonly decoder = new TextDecoder();
  /** The beginning of a line whose end hasn't come, in pieces: joined once. */
  private pieces: string[] = [];
  private event: StreamEvent = {};

  push(bytes: Uint8Array): StreamEvent[] {
    const events: StreamEvent[] = [];
    const text = this.decoder.decode(bytes, { stream: true });
    let start = 0;
    for (;;) {
      const end = text.indexOf("\n", start);
      if (end === -1) break;
      this.pieces.push(text.slice(start, end));
      const line = this.pieces.join("");
      this.pieces = [];
      start = end + 1;
      if (line !== "") {
        this.field(line);
      } else if (this.event.id !== undefined || this.event.data !== undefined) {
        events.push(this.event);
        this.event = {};
      } else {
        this.event = {};
      }
    }
    if (start < text.length) this.pieces.push(text.slice(start));
    return events;
  }

  private field(line: string): void {
    const colon = line.indexOf(":");
    const name = colon === -1 ? line : line.slice(0, colon);
    let value = colon === -1 ? "" : line.slice(colon + 1);
    if (value.startsWith(" ")) value = value.slice(1);
    if (name === "data") {
      this.event.data = this.event.data === undefined ? value : `${this.event.data}\n${value}`;
    } else if (name === "event" || name === "id") {
      this.event[name] = value;
    }
  }
}
