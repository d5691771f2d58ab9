// One message on the page. Views live as long as their node is shown; update() brings them up to
// date. What they do goes to `actions`: edit, regenerate, goTo, sendResults.
import {button, h, icon} from './dom.mjs';
import {copyButton, MarkdownView} from './markdown_dom.mjs';
import {seconds, statsLine} from './numbers.mjs';
import {siblings} from './tree.mjs';

// "‹ 2 of 3 ›" where a message has siblings.
function branchSwitch(conversation, node, actions) {
  const {ids, index} = siblings(conversation, node.id);
  if (ids.length < 2) return null;
  const step = (label, name, to) => button(label, name, () => actions.goTo(ids[to], node.id),
                                           {disabled: to < 0 || to >= ids.length});
  return h('span', {class: 'switch', role: 'group', 'aria-label': 'Branches of this message'},
           step('Branch before', 'left', index - 1),
           h('span', {}, `${index + 1} of ${ids.length}`),
           step('Next branch', 'right', index + 1));
}

class UserTurn {
  constructor(actions) {
    this.actions = actions;
    this.text = h('div', {class: 'said', dir: 'auto'});
    this.foot = h('footer', {});
    this.element = h('article', {class: 'turn user', tabindex: -1, 'aria-label': 'You'},
                     this.text, this.foot);
  }

  update(conversation, node) {
    this.node = node;
    this.text.textContent = node.content;
    this.foot.replaceChildren(
        ...[branchSwitch(conversation, node, this.actions),
            copyButton('Copy message', () => this.node.content),
            button('Edit and branch', 'edit', () => this.edit())].filter(Boolean));
  }

  edit() {
    const area = h('textarea', {'aria-label': 'Edited message', dir: 'auto'});
    area.value = this.node.content;
    const leave = () => {
      form.remove();
      this.text.hidden = this.foot.hidden = false;
      this.foot.querySelector('button:last-of-type')?.focus();
    };
    const form = h('form', {class: 'edit', onsubmit: (event) => {
      event.preventDefault();
      const text = area.value.trim();
      leave();
      if (text !== '') this.actions.edit(this.node.id, text);
    }}, area, h('div', {class: 'row'},
                h('button', {type: 'button', class: 'text-button', onclick: leave}, 'Cancel'),
                h('button', {type: 'submit', class: 'primary'}, 'Send as a new branch')));
    area.addEventListener('keydown', (event) => {
      if (event.key === 'Escape') {
        event.stopPropagation();
        leave();
      } else if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        form.requestSubmit();
      }
    });
    this.text.hidden = this.foot.hidden = true;
    this.element.append(form);
    const fit = () => {
      area.style.height = 'auto';
      area.style.height = `${area.scrollHeight + 2}px`;
    };
    area.addEventListener('input', fit);
    fit();
    area.focus();
  }
}

// Arguments as they stream; once they are whole JSON, laid out.
function argumentsText(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch (error) {
    return text;
  }
}

class CallCard {
  constructor() {
    this.name = h('span', {class: 'call-name'});
    this.state = h('span', {class: 'call-state'});
    this.text = h('code', {});
    this.element = h('details', {class: 'call', open: true},
                     h('summary', {}, icon('tool'), this.name, this.state),
                     h('pre', {tabindex: 0, 'aria-label': 'Arguments'}, this.text));
  }

  update(call, streaming) {
    this.name.textContent = call.name;
    this.state.textContent = streaming ? 'writing' : '';
    this.text.textContent = argumentsText(call.arguments);
  }
}

class AssistantTurn {
  constructor(actions) {
    this.actions = actions;
    this.thoughtsTitle = h('span', {});
    this.thoughtsText = h('div', {class: 'thoughts', dir: 'auto'});
    this.thoughts = h('details', {class: 'thinking', hidden: true},
                      h('summary', {}, icon('right'), this.thoughtsTitle), this.thoughtsText);
    this.thoughts.querySelector('summary').addEventListener('click', () => {
      this.touched = true;  // from now on it opens and closes for people only
    });
    this.content = new MarkdownView();
    this.calls = h('div', {class: 'calls'});
    this.cards = [];
    this.note = h('p', {class: 'turn-note', hidden: true});
    this.results = null;
    this.foot = h('footer', {});
    this.element = h('article', {class: 'turn assistant', tabindex: -1, 'aria-label': 'Answer'},
                     this.thoughts, this.content.element, this.calls, this.note, this.foot);
  }

  // `live`: the builder of an answer that is being made, or null.
  update(conversation, node, live, last) {
    this.node = node;
    this.element.classList.toggle('live', live !== null);
    this.element.classList.toggle('empty', !node.content && !node.reasoning && !node.calls.length);
    this.element.setAttribute('aria-busy', String(live !== null));
    this.#updateThoughts(node, live);
    this.content.update(node.content);
    node.calls.forEach((call, i) => {
      if (!this.cards[i]) {
        this.cards[i] = new CallCard();
        this.calls.append(this.cards[i].element);
      }
      this.cards[i].update(call, live !== null && i === node.calls.length - 1);
    });
    this.#updateEnd(conversation, node, live, last);
  }

  #updateThoughts(node, live) {
    this.thoughts.hidden = node.reasoning === '';
    if (node.reasoning === '') return;
    const thinking = live !== null && node.content === '' && node.calls.length === 0;
    if (!this.touched && this.thoughts.open !== thinking) this.thoughts.open = thinking;
    const time = node.stats?.thoughtSeconds;
    this.thoughtsTitle.textContent = thinking ? 'Thinking' :
        time ? `Thought for ${seconds(time)}` : 'Thoughts';
    this.thoughts.classList.toggle('active', thinking);
    if (this.thoughtsText.textContent !== node.reasoning) {
      this.thoughtsText.textContent = node.reasoning;
      if (thinking) this.thoughtsText.scrollTop = this.thoughtsText.scrollHeight;
    }
  }

  #updateEnd(conversation, node, live, last) {
    const notes = {length: 'Cut off: the limit of tokens was reached.', stopped: 'Stopped.',
                   abort: 'The server ended this answer.',
                   content_filter: 'The server ended this answer.'};
    const note = live !== null ? '' : node.error || (notes[node.finish] ?? '');
    this.note.textContent = note;
    this.note.hidden = note === '';
    this.note.classList.toggle('bad', node.error !== '');
    this.foot.hidden = live !== null;
    if (live !== null) return;
    const regenerate = button('Answer again, as a branch', 'again',
                              () => this.actions.regenerate(this.node.id));
    this.foot.replaceChildren(
        ...[branchSwitch(conversation, node, this.actions),
            node.content ? copyButton('Copy answer', () => this.node.content) : null, regenerate,
            node.stats ? h('span', {class: 'stats'}, statsLine(node.stats)) : null,
           ].filter(Boolean));
    const wanted = last && node.calls.length > 0 && node.finish === 'tool_calls';
    if (wanted && !this.results) {
      this.results = this.#makeResults(node);
      this.element.insertBefore(this.results, this.note);
    } else if (!wanted && this.results) {
      this.results.remove();
      this.results = null;
    }
  }

  // Tools run nowhere on their own: whoever sits here plays them.
  #makeResults(node) {
    const areas = node.calls.map((call) => h('textarea', {
      rows: 2, class: 'mono', 'aria-label': `Result of ${call.name}`,
      placeholder: `What ${call.name} returned`}));
    return h('form', {class: 'results', onsubmit: (event) => {
      event.preventDefault();
      this.actions.sendResults(node.id, node.calls.map((call, i) => (
          {id: call.id, content: areas[i].value})));
    }}, ...areas, h('div', {class: 'row'},
                    h('button', {type: 'submit', class: 'primary'}, 'Send the results')));
  }
}

class ToolTurn {
  constructor(actions) {
    this.actions = actions;
    this.list = h('div', {class: 'calls'});
    this.foot = h('footer', {});
    this.element = h('article', {class: 'turn tool', tabindex: -1, 'aria-label': 'Results'},
                     this.list, this.foot);
  }

  update(conversation, node) {
    this.list.replaceChildren(...node.results.map((result) => h(
        'details', {class: 'call'}, h('summary', {}, icon('right'), 'Result'),
        h('pre', {tabindex: 0, 'aria-label': 'Result'}, h('code', {}, result.content)))));
    this.foot.replaceChildren(
        ...[branchSwitch(conversation, node, this.actions)].filter(Boolean));
  }
}

const KINDS = {user: UserTurn, assistant: AssistantTurn, tool: ToolTurn};

// The messages of the branch that is read, in order.
export class TurnsView {
  constructor(element, actions) {
    this.element = element;
    this.actions = actions;
    this.views = new Map();  // node's id -> view
    this.conversation = null;
  }

  show(conversation, path, live) {
    if (this.conversation !== conversation.id) this.views.clear();
    this.conversation = conversation.id;
    const shown = new Set(path.map((node) => node.id));
    for (const id of [...this.views.keys()]) if (!shown.has(id)) this.views.delete(id);
    const elements = path.map((node, i) => {
      if (!this.views.has(node.id)) this.views.set(node.id, new KINDS[node.role](this.actions));
      const view = this.views.get(node.id);
      view.update(conversation, node, live?.node === node ? live : null, i === path.length - 1);
      return view.element;
    });
    const now = [...this.element.children];
    if (now.length !== elements.length || now.some((one, i) => one !== elements[i])) {
      this.element.replaceChildren(...elements);
    }
  }

  // Only the answer that is being made.
  refresh(conversation, live) {
    this.views.get(live.node.id)?.update(conversation, live.node, live, true);
  }

  focus(id) {
    this.views.get(id)?.element.focus({preventScroll: false});
  }
}
