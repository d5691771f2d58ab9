// The server's own figures, asked for while somebody looks. A figure that the machine does not tell
// has no row; a server that tells none has no panel.
import {ApiError, fetchStatus} from './api.mjs';
import {byId, h} from './dom.mjs';
import {bytes, count, rate} from './numbers.mjs';

const BUSY_MS = 1000, IDLE_MS = 5000;

export class StatusView {
  constructor(settings) {
    this.settings = settings;
    this.busy = false;
    this.last = null;  // the status before, for what is per second
    this.timer = 0;
    document.addEventListener('visibilitychange', () => this.ask());
    this.ask();
  }

  setBusy(busy) {
    this.busy = busy;
    this.ask();
  }

  async ask() {
    clearTimeout(this.timer);
    if (document.hidden) return;
    const panel = byId('status');
    try {
      const status = await fetchStatus(this.settings.key);
      this.settings.keyWorks();
      this.show(status, performance.now());
      panel.hidden = false;
    } catch (error) {
      panel.hidden = true;
      if (error instanceof ApiError && error.status === 404) return;  // it has none
      if (error instanceof ApiError && error.status === 401 && !this.asked) {
        this.asked = true;
        this.settings.askForKey(this.settings.key ? 'The server does not know this key.'
                                                  : 'This server wants a key.');
      }
    }
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(), this.busy ? BUSY_MS : IDLE_MS);
  }

  show(status, now) {
    const before = this.last;
    this.last = {status, now};
    const perSecond = (pick) => {
      const seconds = before ? (now - before.now) / 1000 : 0;
      const change = before ? pick(status) - pick(before.status) : 0;
      return seconds > 0.2 && change >= 0 ? change / seconds : null;
    };
    const rows = [];
    const add = (name, value, title) => {
      if (value !== null && value !== undefined) {
        rows.push(h('div', {title}, h('dt', {}, name), h('dd', {}, value)));
      }
    };
    const speed = perSecond((one) => one.tokens?.generated ?? 0);
    const waiting = status.waiting ? ` + ${status.waiting} waiting` : '';
    add('Running', `${status.running ?? 0}${waiting}`);
    add('Speed', speed === null ? null : rate(speed), 'Tokens of all answers together');
    const {prompt = 0, cached = 0} = status.tokens ?? {};
    add('From cache', prompt > 0 ? `${Math.round(100 * cached / prompt)} %` : null,
        `${count(cached)} of ${count(prompt)} prompt tokens needed no computing`);
    const memory = status.memory ?? {};
    add('Memory', memory.resident ? bytes(memory.resident) : null, 'What the server occupies');
    add('Contexts', memory.state_budget ? `${bytes(memory.state)} of ${bytes(memory.state_budget)}`
                                        : null, 'Pages and states of what was read');
    const joules = status.energy ? perSecond((one) => one.energy?.joules ?? 0) : null;
    add('Power', joules === null ? null : `${joules.toFixed(0)} W`, 'Of the whole machine');
    byId('status-list').replaceChildren(...rows);
  }
}
