// The settings' dialog: what is asked of the model, and the key. An empty field leaves the choice
// to the model.
import {byId} from './dom.mjs';
import {loadKey, loadSettings, saveKey, saveSettings} from './store.mjs';

const NUMBERS = ['temperature', 'top_p', 'max_tokens', 'seed'];
const FIELDS = [...NUMBERS, 'system', 'reasoning_effort', 'tools', 'remember'];

// The list of tools, or null where the text is none.
export function parseTools(text) {
  if (text.trim() === '') return [];
  try {
    const tools = JSON.parse(text);
    return Array.isArray(tools) ? tools : null;
  } catch (error) {
    return null;
  }
}

export class Settings {
  // `onChange` is called when a change is kept.
  constructor(onChange) {
    this.dialog = byId('settings');
    this.form = byId('settings-form');
    this.values = loadSettings();
    this.key = loadKey();
    this.onChange = onChange;
    this.form.elements.key.value = this.key;
    for (const name of FIELDS) {
      const field = this.form.elements[name];
      if (field.type === 'checkbox') field.checked = Boolean(this.values[name]);
      else field.value = this.values[name] ?? '';
    }
    this.form.addEventListener('input', () => this.#read());
    this.dialog.addEventListener('close', () => this.#read());
    this.dialog.addEventListener('click', (event) => {
      if (event.target === this.dialog) this.dialog.close();  // beside it
    });
    byId('settings-open').addEventListener('click', () => this.open());
  }

  open() {
    if (!this.dialog.open) this.dialog.showModal();
  }

  askForKey(message) {
    byId('key-note').textContent = message;
    byId('key-row').classList.add('wanted');
    this.open();
    this.form.elements.key.focus();
  }

  keyWorks() {
    byId('key-row').classList.remove('wanted');
    byId('key-note').textContent = 'Only if the server asks for one.';
  }

  #read() {
    const before = this.key;
    for (const name of FIELDS) {
      const field = this.form.elements[name];
      this.values[name] = field.type === 'checkbox' ? field.checked : field.value;
    }
    this.key = this.form.elements.key.value.trim();
    const fine = parseTools(this.values.tools) !== null;
    byId('tools-note').textContent = fine ? 'You are asked for the result when the model calls one.'
                                          : 'This is not a JSON list; it is not sent.';
    this.form.elements.tools.setAttribute('aria-invalid', String(!fine));
    saveSettings(this.values);
    saveKey(this.key, this.values.remember);
    this.onChange(this.key !== before);
  }

  get system() {
    return this.values.system ?? '';
  }

  // The fields of a request that are set.
  request() {
    const made = {};
    for (const name of NUMBERS) {
      const value = Number(this.values[name]);
      if ((this.values[name] ?? '') !== '' && Number.isFinite(value)) made[name] = value;
    }
    if (this.values.reasoning_effort) made.reasoning_effort = this.values.reasoning_effort;
    const tools = parseTools(this.values.tools ?? '') ?? [];
    if (tools.length > 0) made.tools = tools;
    return made;
  }
}
