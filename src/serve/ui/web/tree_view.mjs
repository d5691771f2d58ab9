// The conversation as a picture: a line for each message, an elbow where branches part. Arrow keys
// move, Enter goes there, as in any tree.
import {h, svg} from './dom.mjs';
import {rows} from './tree.mjs';

const ROW = 34, COLUMN = 16, LEFT = 12;

function labelOf(node) {
  const words = (text) => (
      text.slice(0, 400).replace(/[#*`_>|~]+/g, '').replace(/\s+/g, ' ').trim().slice(0, 80));
  if (node.role === 'user') return words(node.content);
  if (node.role === 'tool') return words(node.results.map((one) => one.content).join(' '));
  if (node.content) return words(node.content);
  if (node.calls.length > 0) return node.calls.map((call) => call.name).join(', ');
  return words(node.reasoning) || node.error || 'No answer yet';
}

const NAMES = {user: 'You', assistant: 'Answer', tool: 'Results'};

function picture(all) {
  const x = (column) => LEFT + column * COLUMN;
  const y = (row) => row * ROW + ROW / 2;
  const lines = [], dots = [];
  all.forEach(({node, column, above, current}, row) => {
    const style = current ? 'current' : '';
    if (above >= 0) {
      const from = x(all[above].column), to = x(column);
      const bend = from === to ? `V${y(row)}`
                               : `V${y(row) - 8}Q${from} ${y(row)} ${from + 8} ${y(row)}H${to}`;
      const line = svg('path', {d: `M${from} ${y(above)}${bend}`, class: style});
      if (current) lines.push(line);
      else lines.unshift(line);
    }
    dots.push(svg('circle', {cx: x(column), cy: y(row), r: node.role === 'user' ? 4 : 3,
                             class: `${style} ${node.role}`}));
  });
  const columns = all.reduce((most, one) => Math.max(most, one.column), 0);
  return [svg('svg', {class: 'branches', width: x(columns) + LEFT, height: all.length * ROW,
                      'aria-hidden': 'true'}, ...lines, ...dots), x(columns) + LEFT];
}

export class TreeView {
  // `onGo(id)`: somebody wants to read there.
  constructor(element, onGo) {
    this.element = element;
    this.onGo = onGo;
  }

  show(conversation) {
    const all = rows(conversation);
    if (all.length === 0) {
      this.element.replaceChildren(h('p', {class: 'note'}, 'Branches appear when you edit a ' +
                                     'message or ask for another answer.'));
      return;
    }
    const focused = this.element.contains(document.activeElement)
        ? document.activeElement.dataset.id : null;
    const [graph, width] = picture(all);
    const lastCurrent = all.findLastIndex((one) => one.current);
    const items = all.map(({node, column, current}, i) => {
      const item = h('div', {
        role: 'treeitem', class: `row ${current ? 'current' : ''} ${node.role}`,
        'aria-level': column + 1, 'aria-selected': String(i === lastCurrent),
        'aria-current': current ? 'true' : null, 'data-id': node.id,
        tabindex: i === Math.max(lastCurrent, 0) ? 0 : -1, title: labelOf(node),
        'aria-label': `${NAMES[node.role]}: ${labelOf(node)}`,
        onclick: () => this.onGo(node.id),
        onkeydown: (event) => this.#key(event, node.id),
      }, labelOf(node));
      item.style.paddingLeft = `${width}px`;
      return item;
    });
    this.element.replaceChildren(h('div', {role: 'tree', class: 'rows', 'aria-label': 'Branches'},
                                   graph, ...items));
    if (focused) this.element.querySelector(`[data-id="${CSS.escape(focused)}"]`)?.focus();
  }

  #key(event, id) {
    const items = [...this.element.querySelectorAll('[role=treeitem]')];
    const at = items.indexOf(event.currentTarget);
    const to = {ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1}[event.key];
    if (to !== undefined) {
      items[Math.max(0, Math.min(to, items.length - 1))].focus();
    } else if (event.key === 'Enter' || event.key === ' ') {
      this.onGo(id);
    } else {
      return;
    }
    event.preventDefault();
  }
}
