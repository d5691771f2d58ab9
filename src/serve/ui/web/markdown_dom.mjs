// Elements from Markdown's tree (markdown.mjs). Text becomes text nodes, addresses have passed
// safeAddress, and there is no other way in.
import {button, h, icon} from './dom.mjs';
import {parseBlocks} from './markdown.mjs';

const INLINE = {strong: 'strong', em: 'em', strike: 's'};

function inline(nodes) {
  return nodes.map((node) => {
    if (node.kind === 'text') return document.createTextNode(node.text);
    if (node.kind === 'code') return h('code', {}, node.text);
    if (node.kind === 'break') return h('br');
    if (node.kind === 'link') {
      return h('a', {href: node.href, title: node.href, target: '_blank',
                     rel: 'noopener noreferrer nofollow'}, ...inline(node.children));
    }
    return h(INLINE[node.kind], {}, ...inline(node.children));
  });
}

export function copyButton(label, read) {
  const made = button(label, 'copy', async () => {
    let done = true;
    try {
      await navigator.clipboard.writeText(read());
    } catch (error) {
      done = false;  // no permission, or no secure address: say so
    }
    made.replaceChildren(icon(done ? 'check' : 'warning'));
    made.setAttribute('aria-label', done ? 'Copied' : 'Could not copy');
    setTimeout(() => {
      made.replaceChildren(icon('copy'));
      made.setAttribute('aria-label', label);
    }, 1600);
  });
  return made;
}

function code(block) {
  const text = h('code', {}, block.text);
  return h('figure', {class: 'code'},
           h('figcaption', {}, h('span', {}, block.language || 'text'),
             copyButton('Copy code', () => block.text)),
           h('pre', {tabindex: 0, 'aria-label': 'Code'}, text));
}

function table(block) {
  const row = (cells, tag) => h('tr', {}, ...cells.map((cell, i) => (
      h(tag, {class: 'align-' + block.align[i], scope: tag === 'th' ? 'col' : null},
        ...inline(cell)))));
  return h('div', {class: 'table', tabindex: 0, role: 'region', 'aria-label': 'Table'},
           h('table', {}, h('thead', {}, row(block.head, 'th')),
             h('tbody', {}, ...block.rows.map((cells) => row(cells, 'td')))));
}

function list(block) {
  const items = block.items.map((item) => {
    const inner = item.blocks.length === 1 && item.blocks[0].kind === 'paragraph'
        ? inline(item.blocks[0].children)
        : item.blocks.map(element);
    if (item.task === null) return h('li', {}, ...inner);
    return h('li', {class: 'task'},
             h('input', {type: 'checkbox', disabled: true, checked: item.task,
                         'aria-label': item.task ? 'done' : 'to do'}), ...inner);
  });
  return block.ordered ? h('ol', {start: block.start}, ...items) : h('ul', {}, ...items);
}

function element(block) {
  switch (block.kind) {
    // The page has the first two levels.
    case 'heading': return h('h' + Math.min(block.level + 2, 6), {class: 'level-' + block.level},
                             ...inline(block.children));
    case 'code': return code(block);
    case 'quote': return h('blockquote', {}, ...block.blocks.map(element));
    case 'list': return list(block);
    case 'table': return table(block);
    case 'rule': return h('hr');
    default: return h('p', {}, ...inline(block.children));
  }
}

// Text that grows: what has not changed stays the same elements, so a selection and the focus on a
// button survive.
export class MarkdownView {
  constructor() {
    this.element = h('div', {class: 'markdown', dir: 'auto'});
    this.shown = [];
  }

  update(text) {
    const blocks = parseBlocks(text);
    let same = 0;
    while (same < blocks.length && same < this.shown.length &&
           blocks[same].source === this.shown[same]) {
      same += 1;
    }
    while (this.element.childNodes.length > same) this.element.lastChild.remove();
    for (const block of blocks.slice(same)) this.element.append(element(block));
    this.shown = blocks.map((block) => block.source);
  }
}
