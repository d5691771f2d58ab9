// The page: wires the conversation (tree.mjs) to what is seen of it and to the server (api.mjs).
// One answer is made at a time; `this.live` is its builder.
import {AnswerBuilder, ApiError, fetchModel, streamChat} from './api.mjs';
import {Announcer} from './announcer.mjs';
import {byId} from './dom.mjs';
import {Frame} from './frame.mjs';
import {count, statsLine} from './numbers.mjs';
import {Settings} from './settings.mjs';
import {StatusView} from './status_view.mjs';
import * as store from './store.mjs';
import * as tree from './tree.mjs';
import {TreeView} from './tree_view.mjs';
import {TurnsView} from './turn_view.mjs';

const SAVE_MS = 1500;

class Page {
  constructor() {
    this.live = null;
    this.abort = null;
    this.drawn = 0;   // the animation frame that is asked for
    this.savedAt = 0;
    this.model = {name: '', context: 0};
    this.turns = new TurnsView(byId('turns'), {
      edit: (id, text) => this.edit(id, text),
      regenerate: (id) => this.regenerate(id),
      goTo: (id) => this.goTo(id),
      sendResults: (id, results) => this.sendResults(id, results),
    });
    this.branches = new TreeView(byId('tree-view'), (id) => this.goTo(id));
    this.announcer = new Announcer(byId('announcer'));
    this.settings = new Settings((keyChanged) => {
      if (!keyChanged) return;
      this.loadModel();
      this.status.asked = true;
      this.status.ask();
    });
    this.status = new StatusView(this.settings);
    this.frame = new Frame(this);
    this.all = store.loadConversations();
    this.conversation = this.all[0] ?? this.#fresh();
    this.loadModel();
    this.show();
    byId('input').focus();
  }

  #fresh() {
    const random = crypto.getRandomValues(new Uint32Array(2));
    return tree.newConversation(random.join('-'), Date.now());
  }

  async loadModel() {
    try {
      this.model = await fetchModel(this.settings.key);
    } catch (error) {
      this.model = {name: 'no connection', context: 0};
      if (error.status !== 401) this.frame.notice(error.message);
    }
    byId('model-name').textContent = this.model.name;
    byId('model-name').title = this.model.name;
    this.#showContext();
  }

  // --- What is shown -----------------------------------------------------------------------------

  show() {
    const path = tree.currentPath(this.conversation);
    byId('welcome').hidden = path.length > 0;
    this.turns.show(this.conversation, path, this.live);
    if (!byId('tree').hidden) this.branches.show(this.conversation);
    this.frame.showList(this.all, this.conversation);
    byId('title').value = this.conversation.title;
    document.title = this.conversation.title ? `${this.conversation.title} – Lode` : 'Lode';
    byId('send').hidden = this.live !== null;
    byId('stop').hidden = this.live === null;
    this.#showContext();
  }

  #showContext() {
    const stats = tree.currentPath(this.conversation).findLast((node) => node.stats)?.stats;
    const used = (stats?.prompt ?? 0) + (stats?.tokens ?? 0);
    byId('context').hidden = used === 0 || this.model.context === 0;
    byId('context-bar').value = this.model.context ? used / this.model.context : 0;
    byId('context-text').textContent = `${count(used)} of ${count(this.model.context)}`;
  }

  #showLive() {
    const {live} = this;
    if (live === null) return;
    if (live.progress) {
      const {processed, total} = live.progress;
      byId('live').textContent =
          `Reading the prompt: ${count(processed)} of ${count(total)} tokens`;
    } else if (live.firstAt === 0) {
      byId('live').textContent = 'Waiting for the first token';
    } else {
      byId('live').textContent = statsLine(live.stats(performance.now()));
    }
  }

  // At most once a frame, however many chunks come.
  #drawSoon() {
    if (this.drawn) return;
    this.drawn = requestAnimationFrame(() => {
      this.drawn = 0;
      if (this.live === null) return;
      const stick = this.frame.atEnd();
      this.turns.refresh(this.conversation, this.live);
      this.#showLive();
      if (stick) this.frame.toEnd();
    });
  }

  // --- What people do ----------------------------------------------------------------------------

  newConversation() {
    this.stop();
    this.conversation = this.#fresh();
    this.show();
    byId('input').focus();
  }

  open(id) {
    this.stop();
    this.conversation = this.all.find((one) => one.id === id) ?? this.conversation;
    this.show();
    this.frame.toEnd();
  }

  remove(id) {
    if (id === this.conversation.id) this.stop();
    store.deleteConversation(id);
    this.all = this.all.filter((one) => one.id !== id);
    if (id === this.conversation.id) this.conversation = this.all[0] ?? this.#fresh();
    this.show();
  }

  // Files of this page's own export.
  adopt(raw) {
    const list = Array.isArray(raw?.conversations) ? raw.conversations : [raw];
    const fine = list.map(tree.checkedConversation).filter((one) => one !== null);
    for (const one of fine) {
      if (one.id === '' || this.all.some((other) => other.id === one.id)) one.id = this.#fresh().id;
      this.all.unshift(one);
      store.saveConversation(one);
    }
    if (fine.length > 0) this.open(fine[0].id);
    this.frame.notice(fine.length === list.length ? '' : 'This file holds no conversation.');
  }

  setTitle(title) {
    this.conversation.title = title;
    if (this.all.includes(this.conversation)) this.save();
    this.show();
  }

  // A message at the end of what is read.
  send(text) {
    if (this.live !== null || text === '') return false;
    const {conversation} = this;
    if (conversation.title === '') conversation.title = text.replace(/\s+/g, ' ').slice(0, 60);
    const node = tree.addNode(conversation, tree.lastNode(conversation).id,
                              {role: 'user', content: text});
    this.answer(node.id);
    return true;
  }

  edit(id, text) {
    if (this.live !== null) this.stop();
    const node = tree.addNode(this.conversation, this.conversation.nodes[id].parent,
                              {role: 'user', content: text});
    this.answer(node.id);
  }

  regenerate(id) {
    if (this.live !== null) this.stop();
    this.answer(this.conversation.nodes[id].parent);
  }

  sendResults(id, results) {
    const node = tree.addNode(this.conversation, id, {role: 'tool', results});
    this.answer(node.id);
  }

  // `from`: the sibling whose switch was used; the focus follows.
  goTo(id, from) {
    this.stop();
    tree.goTo(this.conversation, id);
    this.save();
    this.show();
    if (from) this.turns.focus(id);
    else this.frame.reveal(id, this.turns);
  }

  stop() {
    this.abort?.abort();
  }

  save() {
    this.savedAt = performance.now();
    this.conversation.updated = Date.now();
    if (!this.all.includes(this.conversation)) this.all.unshift(this.conversation);
    this.all.sort((a, b) => b.updated - a.updated);
    if (!store.saveConversation(this.conversation)) {
      this.frame.notice('This browser keeps no more: export what you need.');
    }
  }

  // --- An answer ---------------------------------------------------------------------------------

  // Streams an answer to the node `parent` as its next child.
  async answer(parent) {
    const {conversation} = this;
    const node = tree.addNode(conversation, parent, tree.newAnswer());
    const live = new AnswerBuilder(node, performance.now());
    const abort = new AbortController();
    this.live = live;
    this.abort = abort;
    this.save();
    this.show();
    this.#showLive();
    this.frame.toEnd();
    this.status.setBusy(true);
    this.announcer.begin(() => node.content);
    const request = {
      model: this.model.name, stream: true, return_progress: true,
      stream_options: {include_usage: true, continuous_usage_stats: true},
      ...this.settings.request(),
      messages: tree.toMessages(conversation, parent, this.settings.system),
    };
    try {
      await streamChat(request, this.settings.key, abort.signal, (chunk) => {
        live.add(chunk, performance.now());
        if (performance.now() - this.savedAt > SAVE_MS) this.#keep(conversation);
        if (this.live === live) this.#drawSoon();
      });
    } catch (error) {
      this.#failed(node, error, abort.signal.aborted);
    }
    node.stats = live.stats(performance.now());
    this.#keep(conversation);
    if (this.live !== live) return;  // another one has begun meanwhile
    this.#finish(node);
  }

  #keep(conversation) {
    this.savedAt = performance.now();
    if (this.all.includes(conversation)) store.saveConversation(conversation);
  }

  #failed(node, error, stopped) {
    if (stopped) {
      node.finish = 'stopped';
      return;
    }
    if (!(error instanceof ApiError)) console.error(error);
    const wait = error.retryAfter ? ` Try again in ${error.retryAfter} s.` : '';
    node.error = error instanceof ApiError ? error.message + wait
                                           : 'The answer was not understood.';
    if (error.status === 401) {
      this.settings.askForKey(this.settings.key ? 'The server does not know this key.'
                                                : 'This server wants a key.');
    }
  }

  #finish(node) {
    const stick = this.frame.atEnd();
    this.live = this.abort = null;
    byId('live').textContent = '';
    this.show();
    if (stick) this.frame.toEnd();
    this.status.setBusy(false);
    const last = node.finish === 'stopped' ? 'Stopped.' : 'End of the answer.';
    this.announcer.end(node.error || last);
  }
}

new Page();
