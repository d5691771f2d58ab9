// Server-sent events out of chunks that are cut anywhere.

export class EventReader {
  #rest = '';
  #data = [];

  // `text`: what has come. Returns the data of the events that it completes.
  push(text) {
    const events = [];
    this.#rest += text;
    let begin = 0;
    for (;;) {
      const end = this.#rest.indexOf('\n', begin);
      if (end < 0) break;
      let line = this.#rest.slice(begin, end);
      begin = end + 1;
      if (line.endsWith('\r')) line = line.slice(0, -1);
      if (line === '') {
        if (this.#data.length > 0) events.push(this.#data.join('\n'));
        this.#data = [];
      } else if (line.startsWith('data:')) {
        this.#data.push(line.slice(line[5] === ' ' ? 6 : 5));
      }  // comments keep the connection alive; other fields are not used here
    }
    this.#rest = this.#rest.slice(begin);
    return events;
  }
}
