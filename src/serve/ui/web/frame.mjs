// What stands around a conversation: the list at the side, the message field, the panels, colours,
// keys of the keyboard.
import {byId, button, h} from './dom.mjs';
import * as store from './store.mjs';

const THEMES = ['auto', 'light', 'dark'];
const THEME_NAMES = {auto: 'as the system', light: 'light', dark: 'dark'};
const NEAR_END = 80;  // pixels from the end that still count as reading along

export class Frame {
  constructor(page) {
    this.page = page;
    this.noticeTimer = 0;
    this.#wireComposer();
    this.#wireSide();
    this.#wirePanels();
    this.#wireFiles();
    this.#wireTheme();
    document.addEventListener('keydown', (event) => this.#key(event));
    window.addEventListener('storage', (event) => this.#otherTab(event));
  }

  // --- The conversation's end --------------------------------------------------------------------

  atEnd() {
    const box = byId('scroll');
    return box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_END;
  }

  toEnd() {
    const box = byId('scroll');
    box.scrollTop = box.scrollHeight;
    byId('to-end').hidden = true;
  }

  reveal(id, turns) {
    const view = turns.views.get(id);
    view?.element.scrollIntoView({block: 'center'});
  }

  notice(text) {
    const box = byId('notice');
    box.textContent = text;
    box.hidden = text === '';
    clearTimeout(this.noticeTimer);
    if (text !== '') this.noticeTimer = setTimeout(() => (box.hidden = true), 8000);
  }

  // --- The message field -------------------------------------------------------------------------

  #wireComposer() {
    const input = byId('input');
    const fit = () => {
      input.style.height = 'auto';
      input.style.height = `${Math.min(input.scrollHeight, innerHeight * 0.4)}px`;
    };
    const send = () => {
      if (!this.page.send(input.value.trim())) return;
      input.value = '';
      fit();
    };
    input.addEventListener('input', fit);
    input.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        send();
      }
    });
    byId('composer').addEventListener('submit', (event) => {
      event.preventDefault();
      send();
      input.focus();
    });
    byId('stop').addEventListener('click', () => {
      this.page.stop();
      input.focus();
    });
    byId('scroll').addEventListener('scroll', () => (byId('to-end').hidden = this.atEnd()),
                                    {passive: true});
    byId('to-end').addEventListener('click', () => this.toEnd());
  }

  #key(event) {
    if (event.key === 'Escape' && !event.defaultPrevented && !byId('settings').open) {
      if (this.page.live !== null) this.page.stop();
      else if (document.body.classList.contains('side-open')) this.#side(false);
      else if (!byId('tree').hidden) this.#tree(false);
    } else if (event.key.toLowerCase() === 'o' && event.shiftKey &&
               (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      this.page.newConversation();
    }
  }

  // --- The list ----------------------------------------------------------------------------------

  showList(all, current) {
    byId('chats').replaceChildren(...all.map((one) => {
      const here = one.id === current.id;
      const name = one.title || 'New conversation';
      const open = h('button', {type: 'button', class: 'chat', title: name,
                                'aria-current': here ? 'page' : null, onclick: () => {
        this.#side(false);
        this.page.open(one.id);
      }}, name);
      const remove = button(`Delete ${name}`, 'delete', () => this.#confirmDelete(remove, one));
      return h('li', {class: here ? 'here' : ''}, open, remove);
    }));
  }

  // The second press within some seconds deletes.
  #confirmDelete(control, one) {
    if (control.classList.contains('sure')) {
      this.page.remove(one.id);
      byId('new-chat').focus();
      return;
    }
    control.classList.add('sure');
    control.setAttribute('aria-label', 'Press again to delete');
    this.page.announcer.say('Press again to delete');
    setTimeout(() => {
      control.classList.remove('sure');
      control.setAttribute('aria-label', `Delete ${one.title}`);
    }, 3000);
  }

  #side(open) {
    const was = document.body.classList.contains('side-open');
    document.body.classList.toggle('side-open', open);
    byId('veil').hidden = !open;
    if (open) byId('side-close').focus();
    else if (was) byId('side-open').focus();
  }

  #wireSide() {
    byId('side-open').addEventListener('click', () => this.#side(true));
    byId('side-close').addEventListener('click', () => this.#side(false));
    byId('veil').addEventListener('click', () => this.#side(false));
    byId('new-chat').addEventListener('click', () => {
      this.#side(false);
      this.page.newConversation();
    });
    byId('title').addEventListener('change', (event) => {
      this.page.setTitle(event.target.value.trim());
    });
  }

  #otherTab(event) {
    if (!store.isConversationKey(event.key) || this.page.live !== null) return;
    const {page} = this;
    page.all = store.loadConversations();
    page.conversation = page.all.find((one) => one.id === page.conversation.id) ??
        page.conversation;
    page.show();
  }

  // --- Panels ------------------------------------------------------------------------------------

  #tree(open) {
    byId('tree').hidden = !open;
    byId('tree-toggle').setAttribute('aria-expanded', String(open));
    if (open) {
      this.page.branches.show(this.page.conversation);
      (byId('tree').querySelector('[role=treeitem][tabindex="0"]') ?? byId('tree-close')).focus();
    } else {
      byId('tree-toggle').focus();
    }
  }

  #wirePanels() {
    byId('tree-toggle').addEventListener('click', () => this.#tree(byId('tree').hidden));
    byId('tree-close').addEventListener('click', () => this.#tree(false));
  }

  #wireFiles() {
    const file = byId('import-file');
    byId('import').addEventListener('click', () => file.click());
    file.addEventListener('change', async () => {
      try {
        this.page.adopt(JSON.parse(await file.files[0].text()));
      } catch (error) {
        this.notice('This file holds no conversation.');
      }
      file.value = '';
    });
    byId('export').addEventListener('click', () => {
      const {conversation} = this.page;
      const words = conversation.title.replace(/[^\p{L}\p{N}]+/gu, '-').replace(/^-|-$/g, '');
      const address = URL.createObjectURL(
          new Blob([JSON.stringify(conversation, null, 2) + '\n'], {type: 'application/json'}));
      h('a', {href: address, download: `${words.slice(0, 40) || 'conversation'}.json`}).click();
      setTimeout(() => URL.revokeObjectURL(address), 10000);
    });
  }

  #wireTheme() {
    let theme = store.loadTheme();
    const apply = () => {
      if (theme === 'auto') delete document.documentElement.dataset.theme;
      else document.documentElement.dataset.theme = theme;
      byId('theme').setAttribute('aria-label', `Colours: ${THEME_NAMES[theme]}`);
      byId('theme').title = `Colours: ${THEME_NAMES[theme]}`;
    };
    if (!THEMES.includes(theme)) theme = 'auto';
    apply();
    byId('theme').addEventListener('click', () => {
      theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
      store.saveTheme(theme);
      apply();
    });
  }
}
