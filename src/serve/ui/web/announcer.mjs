// Tells screen readers what is going on, a few sentences at a time: a live region that changed with
// every token would never stop talking.
const PAUSE = 3500;  // milliseconds between two announcements of a text that grows

export class Announcer {
  constructor(element) {
    this.element = element;
    this.read = () => '';
    this.said = 0;
    this.timer = 0;
  }

  say(text) {
    this.element.textContent = text;
  }

  // `read` gives the text so far.
  begin(read) {
    this.read = read;
    this.said = 0;
    this.say('Answering');
    clearInterval(this.timer);
    this.timer = setInterval(() => this.#more(), PAUSE);
  }

  // Whole sentences and lines only.
  #more() {
    const rest = this.read().slice(this.said);
    const whole = /^[^]*[.!?:\n](?=\s|$)/.exec(rest)?.[0] ?? '';
    if (whole.trim() === '') return;
    this.said += whole.length;
    this.say(whole.trim());
  }

  end(last) {
    clearInterval(this.timer);
    this.say((this.read().slice(this.said).trim() + ' ' + last).trim());
  }
}
