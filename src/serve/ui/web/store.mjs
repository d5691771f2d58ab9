// What this browser keeps: conversations, one entry each, and settings. Where storage is closed to
// the page, everything lives until the tab is closed.
import {checkedConversation} from './tree.mjs';

const CHAT = 'lode.chat.';
const memory = new Map();

function attempt(action, otherwise) {
  try {
    return action();
  } catch (error) {
    return otherwise;
  }
}

function read(key) {
  return memory.get(key) ?? attempt(() => localStorage.getItem(key), null);
}

// False: there is no room, or no permission.
function write(key, value) {
  const stored = attempt(() => {
    localStorage.setItem(key, value);
    return true;
  }, false);
  if (stored) memory.delete(key);
  else memory.set(key, value);
  return stored;
}

function remove(key) {
  memory.delete(key);
  attempt(() => localStorage.removeItem(key));
}

// Newest first.
export function loadConversations() {
  const keys = attempt(() => Object.keys(localStorage).filter((key) => key.startsWith(CHAT)), []);
  const all = keys.map((key) => checkedConversation(attempt(() => JSON.parse(read(key)), null)));
  return all.filter((one) => one !== null).sort((a, b) => b.updated - a.updated);
}

export const loadConversation = (id) => (
    checkedConversation(attempt(() => JSON.parse(read(CHAT + id)), null)));
export const saveConversation = (one) => write(CHAT + one.id, JSON.stringify(one));
export const deleteConversation = (id) => remove(CHAT + id);
export const isConversationKey = (key) => key === null || key.startsWith(CHAT);

export const loadSettings = () => attempt(() => JSON.parse(read('lode.settings')), null) ?? {};
export const saveSettings = (settings) => write('lode.settings', JSON.stringify(settings));

export const loadTheme = () => read('lode.theme') ?? 'auto';
export const saveTheme = (theme) => (theme === 'auto' ? remove('lode.theme')
                                                      : write('lode.theme', theme));

// The key stays in the tab unless it is to be remembered.
export function loadKey() {
  return attempt(() => sessionStorage.getItem('lode.key'), null) ?? read('lode.key') ?? '';
}

export function saveKey(key, remember) {
  attempt(() => sessionStorage.setItem('lode.key', key));
  if (remember && key) write('lode.key', key);
  else remove('lode.key');
}
