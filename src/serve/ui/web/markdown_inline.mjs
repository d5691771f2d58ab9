// The inside of a paragraph: emphasis, code, links. See markdown.mjs for what comes out.

const PUNCTUATION = /[!-/:-@[-`{-~]/;
const OPEN_MAX = 200;  // marks that may wait for their other half; older ones stay text

const ENTITIES = {amp: '&', lt: '<', gt: '>', quot: '"', apos: "'", nbsp: '\u00a0', '#39': "'",
                  '#x27': "'", hellip: '…', mdash: '—', ndash: '–', copy: '©'};

// The address as it may be linked to, or null. Of all schemes these three; nothing relative, for
// a model's text has no place of its own on this server.
export function safeAddress(address) {
  const clean = address.trim();
  if (clean.length > 4096 || /[\u0000-\u0020\u007f<>"]/.test(clean)) return null;
  if (!/^(https?:\/\/[^/]|mailto:[^/])/i.test(clean)) return null;
  try {
    const url = new URL(clean);
    if (url.username || url.password) return null;  // hides where it leads
    return ['http:', 'https:', 'mailto:'].includes(url.protocol) ? url.href : null;
  } catch (error) {
    return null;
  }
}

// "](address "title")"; the address may hold a pair of parentheses.
const PLAIN = '[^\\s()<>]{0,1024}';
const TARGET = new RegExp(
    `^\\]\\(\\s*(<[^<>\\n]{0,4096}>|${PLAIN}(?:\\(${PLAIN}\\)${PLAIN}){0,8})` +
    '(?:\\s+(?:"[^"\\n]{0,500}"|\'[^\'\\n]{0,500}\'))?\\s*\\)');

const isSpace = (c) => c === '' || /\s/.test(c);

class Inline {
  constructor(source) {
    this.source = source;
    this.at = 0;
    this.pieces = [];  // nodes, and {mark, count, opens, closes} that may yet become emphasis
    this.brackets = [];
    this.codeEnds = new Map();  // length of a run of backticks -> offsets of such runs
    for (const run of source.matchAll(/`+/g)) {
      if (!this.codeEnds.has(run[0].length)) this.codeEnds.set(run[0].length, []);
      this.codeEnds.get(run[0].length).push(run.index);
    }
  }

  parse() {
    const {source} = this;
    while (this.at < source.length) {
      const rest = /[\\`*_~[\]<&\nh!]/g;
      rest.lastIndex = this.at;
      const next = rest.exec(source)?.index ?? source.length;
      this.text(source.slice(this.at, next));
      this.at = next;
      if (next < source.length && !this.special(source[next])) {
        this.text(source[this.at]);
        this.at += 1;
      }
    }
    return emphasize(this.pieces);
  }

  text(value) {
    if (value === '') return;
    const last = this.pieces.at(-1);
    if (last?.kind === 'text') last.text += value;
    else this.pieces.push({kind: 'text', text: value});
  }

  // Something at `at`; false: it is only a letter.
  special(c) {
    switch (c) {
      case '\\': return this.escape();
      case '`': return this.code();
      case '*': case '_': case '~': return this.mark(c);
      case '!':
        if (this.source[this.at + 1] !== '[') return false;
        this.at += 1;
        return this.open(true);
      case '[': return this.open(false);
      case ']': return this.close();
      case '<': return this.angle();
      case '&': return this.entity();
      case '\n':
        this.pieces.push({kind: 'break'});
        this.at += 1;
        return true;
      default: return this.bare();
    }
  }

  escape() {
    const next = this.source[this.at + 1] ?? '';
    if (next === '\n') {
      this.at += 1;
      return true;
    }
    if (!PUNCTUATION.test(next)) return false;
    // \( and \[ begin formulas, which are left as they were written.
    this.text('()[]'.includes(next) ? '\\' + next : next);
    this.at += 2;
    return true;
  }

  code() {
    const length = /^`+/.exec(this.source.slice(this.at, this.at + 256))[0].length;
    const begin = this.at + length;
    const ends = this.codeEnds.get(length) ?? [];
    while (ends.length > 0 && ends[0] < begin) ends.shift();
    if (ends.length === 0) {
      this.text('`'.repeat(length));
      this.at = begin;
      return true;
    }
    let text = this.source.slice(begin, ends[0]).replaceAll('\n', ' ');
    if (/^ .*[^ ].* $/s.test(text)) text = text.slice(1, -1);
    this.pieces.push({kind: 'code', text});
    this.at = ends[0] + length;
    return true;
  }

  mark(c) {
    let end = this.at;
    while (this.source[end] === c) end += 1;
    const count = end - this.at;
    const before = this.source[this.at - 1] ?? '';
    const after = this.source[end] ?? '';
    const left = !isSpace(after) &&
        (!PUNCTUATION.test(after) || isSpace(before) || PUNCTUATION.test(before));
    const right = !isSpace(before) &&
        (!PUNCTUATION.test(before) || isSpace(after) || PUNCTUATION.test(after));
    const word = c === '_';
    this.pieces.push({mark: c, count,
                      opens: left && (!word || !right || PUNCTUATION.test(before)),
                      closes: right && (!word || !left || PUNCTUATION.test(after))});
    this.at = end;
    return true;
  }

  open(image) {
    this.brackets.push(this.pieces.length);
    if (this.brackets.length > OPEN_MAX) this.brackets.shift();
    this.pieces.push({kind: 'text', text: image ? '![' : '[', bracket: true});
    this.pieces.push({kind: 'text', text: ''});
    this.at += 1;
    return true;
  }

  // A picture is a link to it: to load one would tell its server what is being read.
  close() {
    if (this.brackets.length === 0) return false;
    const from = this.brackets.pop();
    const target = TARGET.exec(this.source.slice(this.at, this.at + 6000));
    if (!target) return false;
    const href = safeAddress(target[1].replace(/^<|>$/g, ''));
    const children = emphasize(this.pieces.splice(from).slice(1));
    const shown = children.length > 0 ? children : [{kind: 'text', text: href ?? ''}];
    if (href === null) this.pieces.push(...children);
    else this.pieces.push({kind: 'link', href, children: shown});
    this.brackets.length = href === null ? this.brackets.length : 0;  // links hold no links
    this.at += target[0].length;
    return true;
  }

  angle() {
    const match = /^<((?:https?:\/\/|mailto:)[^\s<>]{1,2048})>/i.exec(
        this.source.slice(this.at, this.at + 2060));
    const line = /^<br\s*\/?>/i.exec(this.source.slice(this.at, this.at + 16));
    if (line) {
      this.pieces.push({kind: 'break'});
      this.at += line[0].length;
      return true;
    }
    const href = match ? safeAddress(match[1]) : null;
    if (href === null) return false;
    this.pieces.push({kind: 'link', href, children: [{kind: 'text', text: match[1]}]});
    this.at += match[0].length;
    return true;
  }

  entity() {
    const match = /^&([a-z]{2,6}|#39|#x27);/.exec(this.source.slice(this.at, this.at + 10));
    if (!match || !Object.hasOwn(ENTITIES, match[1])) return false;
    this.text(ENTITIES[match[1]]);
    this.at += match[0].length;
    return true;
  }

  bare() {
    if (/\w/.test(this.source[this.at - 1] ?? '') || this.brackets.length > 0) return false;
    const match = /^https?:\/\/[^\s<>"'`*]{1,2048}/.exec(
        this.source.slice(this.at, this.at + 2060));
    if (!match) return false;
    let address = match[0].replace(/[.,;:!?\]}|~_]+$/, '');
    if (!address.includes('(')) address = address.replace(/\)+[.,;:!?]*$/, '');
    const href = safeAddress(address);
    if (href === null) return false;
    this.pieces.push({kind: 'link', href, children: [{kind: 'text', text: address}]});
    this.at += address.length;
    return true;
  }
}

const textOf = (mark) => ({kind: 'text', text: mark.mark.repeat(mark.count)});
const settled = (piece) => (piece.mark === undefined ? piece : textOf(piece));

// Pairs the marks in order: each closing one with the nearest open one of its kind.
function emphasize(pieces) {
  const out = [];
  const open = [];  // offsets in `out` of marks that wait
  for (const piece of pieces) {
    if (piece.mark === undefined) {
      out.push(piece);
      continue;
    }
    const mark = {...piece};
    while (mark.closes && mark.count > 0) {
      let found = open.length - 1;
      while (found >= 0 && out[open[found]].mark !== mark.mark) found -= 1;
      if (found < 0) break;
      const place = open[found];
      const begin = out[place];
      const used = mark.mark === '~' ? Math.min(mark.count, begin.count)
                                     : Math.min(mark.count, begin.count, 2);
      if (mark.mark === '~' && (used > 2 || begin.count !== mark.count)) break;
      const inside = out.splice(place + 1).map(settled);
      open.length = found + 1;
      if (inside.length === 0) break;
      const kind = mark.mark === '~' ? 'strike' : used === 2 ? 'strong' : 'em';
      out.push({kind, children: inside});
      begin.count -= used;
      mark.count -= used;
      if (begin.count === 0) {
        out.splice(place, 1);
        open.pop();
      }
    }
    if (mark.count === 0) continue;
    if (mark.opens) {
      open.push(out.length);
      if (open.length > OPEN_MAX) out[open[0]] = textOf(out[open.shift()]);
    }
    out.push(mark.opens ? mark : textOf(mark));
  }
  return out.map(settled).filter((one) => one.kind !== 'text' || one.text !== '');
}

export const parseInline = (source) => new Inline(source).parse();
