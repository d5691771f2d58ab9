// The page's modules that need no browser: Markdown, a conversation's tree, events of a stream.
import assert from 'node:assert/strict';
import {test} from 'node:test';

const web = new URL('../../src/serve/ui/web/', import.meta.url);
const {parseBlocks} = await import(new URL('markdown.mjs', web));
const {parseInline, safeAddress} = await import(new URL('markdown_inline.mjs', web));
const {EventReader} = await import(new URL('sse.mjs', web));
const {AnswerBuilder} = await import(new URL('api.mjs', web));
const tree = await import(new URL('tree.mjs', web));

// A short form to compare: em(a strong(b)) of *a **b***.
function short(nodes) {
  return nodes.map((node) => {
    if (node.kind === 'text') return node.text;
    if (node.kind === 'break') return '/';
    if (node.kind === 'code') return `code(${node.text})`;
    const href = node.href ? `${node.href}: ` : '';
    return `${node.kind}(${href}${short(node.children)})`;
  }).join('');
}

function shortBlock(block) {
  switch (block.kind) {
    case 'paragraph': return `p(${short(block.children)})`;
    case 'heading': return `h${block.level}(${short(block.children)})`;
    case 'code': return `code:${block.language}(${block.text})`;
    case 'quote': return `quote(${block.blocks.map(shortBlock).join(' ')})`;
    case 'list': return `${block.ordered ? `ol${block.start}` : 'ul'}(${block.items.map((item) => (
        (item.task === null ? '' : item.task ? '[x]' : '[ ]') +
        item.blocks.map(shortBlock).join(' '))).join('; ')})`;
    case 'table': return `table(${[block.head, ...block.rows].map((row) => (
        row.map(short).join('|'))).join('; ')})`;
    default: return block.kind;
  }
}

const inline = (text) => short(parseInline(text));
const blocks = (text) => parseBlocks(text).map(shortBlock).join(' ');

test('emphasis nests, pairs with the nearest mark, and leaves lone marks alone', () => {
  assert.equal(inline('a **b *c* d** e'), 'a strong(b em(c) d) e');
  assert.equal(inline('***x***'), 'em(strong(x))');
  assert.equal(inline('2 * 3 * 4, snake_case_word, **open'), '2 * 3 * 4, snake_case_word, **open');
  assert.equal(inline('~~gone~~, __bold__ and _it_'), 'strike(gone), strong(bold) and em(it)');
});

test('code holds what it holds', () => {
  assert.equal(inline('`a*b*` ``x`y`` `open'), 'code(a*b*) code(x`y) `open');
  assert.equal(blocks('```js\n<b>\n\tx **y**\n```\nz'), 'code:js(<b>\n\tx **y**) p(z)');
  assert.equal(blocks('~~~\n```\n~~~'), 'code:(```)');
  assert.equal(blocks('```py\nstill coming'), 'code:py(still coming)');
});

test('links keep http, https and mailto, and nothing else', () => {
  assert.equal(inline('[a](https://e.org/x_(y) "t")'), 'link(https://e.org/x_(y): a)');
  assert.equal(inline('https://e.org/a). '), 'link(https://e.org/a: https://e.org/a)). ');
  assert.equal(inline('<mailto:a@e.org>'), 'link(mailto:a@e.org: mailto:a@e.org)');
  for (const address of [
    'javascript:alert(1)', 'JaVaScRiPt:alert(1)', ' javascript:alert(1)', 'java\nscript:alert(1)',
    'data:text/html,<script>1</script>', 'vbscript:x', 'file:///etc/passwd', '//evil.example/',
    '/v1/models', '#top', 'https:evil', 'https://user:pass@evil.example/', 'blob:https://e.org/1',
    'https://e.org/"onclick="x', 'https://', '\u0001javascript:alert(1)',
    'view-source:https://e.org',
  ]) {
    assert.equal(safeAddress(address), null, address);
    assert.ok(!inline(`[a](${address})`).startsWith('link('), address);
  }
});

test('a picture is a link to it, for loading one tells its server who reads', () => {
  assert.equal(inline('![p](https://e.org/x.png)'), 'link(https://e.org/x.png: p)');
});

test('HTML is text', () => {
  assert.equal(inline('<img src=x onerror=f(1)> &lt;b&gt;'), '<img src=x onerror=f(1)> <b>');
  assert.equal(blocks('<script>\nx\n</script>'), 'p(<script>/x/</script>)');
});

test('lists nest by their indentation, keep their numbers, and know tasks', () => {
  assert.equal(blocks('3. a\n   - b\n   - c\n4. d'), 'ol3(p(a) ul(p(b); p(c)); p(d))');
  assert.equal(blocks('1. a\n\n   more\n\n2. b'), 'ol1(p(a) p(more); p(b))');
  assert.equal(blocks('- [x] a\n- [ ] b'), 'ul([x]p(a); [ ]p(b))');
  assert.equal(blocks('1. a\n```js\nx\n```\n2. b'), 'ol1(p(a)) code:js(x) ol2(p(b))');
  assert.equal(blocks('- a\n  ```\n  x\n\n  y\n  ```\n- b'), 'ul(p(a) code:(x\n\ny); p(b))');
  assert.equal(blocks('In\n1986. A year'), 'p(In/1986. A year)');
});

test('headings, quotes, rules and tables', () => {
  assert.equal(blocks('# A #\n## B\n\n---\n> q\n> - z'), 'h1(A) h2(B) rule quote(p(q) ul(p(z)))');
  assert.equal(blocks('| a | b |\n|---|:-:|\n| `x\\|y` | **2** |\n| 3 |'),
               'table(a|b; code(x|y)|strong(2); 3|)');
  assert.equal(blocks('a | b\nno table'), 'p(a | b/no table)');
});

test('text that grows changes only its last blocks', () => {
  const whole = '# A\n\nSome *text*.\n\n```js\nlet a = 1;\n```\n\n- x\n- y\n\nEnd.';
  let before = [];
  for (let end = 1; end <= whole.length; end += 1) {
    const now = parseBlocks(whole.slice(0, end)).map((block) => block.source);
    let same = 0;
    while (same < before.length && before[same] === now[same]) same += 1;
    assert.ok(same >= before.length - 2, whole.slice(0, end));
    before = now;
  }
});

test('hostile text takes no more than its length', () => {
  const size = 40000;
  const texts = ['*', '_a*', '[', '[a](', '`', '>', '> ', '- ', '|', '&amp', 'http://', '<a', '\n',
                 '- a\n\n', '```\n', '**a ', '~~a', '# ', '![', '[a](https://e.org/', '\\', '1. ',
                 '|a|b|\n|-|-|\n', '- a\n  - b\n    - c\n', '*a **b '].map((text) => (
      text.repeat(size / text.length)));
  texts.push(Array.from({length: 300}, (_, i) => '`'.repeat(i)).join(' '),
             Array.from({length: 400}, (_, i) => ' '.repeat(2 * i) + '- a').join('\n'),
             'a|b\n' + '-'.repeat(size) + 'x', '- a' + '\n'.repeat(size) + 'b',
             '# a' + ' '.repeat(size) + 'b', '**a'.repeat(9999) + '**'.repeat(9999));
  for (const text of texts) {
    const before = process.cpuUsage().user;
    parseBlocks(text);
    const milliseconds = (process.cpuUsage().user - before) / 1000;
    assert.ok(milliseconds < 1500, `${JSON.stringify(text.slice(0, 30))}: ${milliseconds} ms`);
  }
});

test('events come out whole wherever the stream is cut', () => {
  const stream = ': hello\n\ndata: {"a":1}\r\n\r\nevent: x\ndata:two\ndata: lines\n\n' +
      'data: [DONE]\n\n';
  const wanted = ['{"a":1}', 'two\nlines', '[DONE]'];
  for (let cut = 0; cut <= stream.length; cut += 1) {
    const reader = new EventReader();
    assert.deepEqual([...reader.push(stream.slice(0, cut)), ...reader.push(stream.slice(cut))],
                     wanted);
  }
});

test('an answer is put together from its chunks, calls by their index', () => {
  const node = tree.newAnswer();
  const builder = new AnswerBuilder(node, 0);
  const add = (delta, rest, now) => builder.add({choices: [{delta, ...rest}], ...rest}, now);
  builder.add({choices: [], prompt_progress: {total: 10, processed: 5, cache: 0}}, 50);
  assert.equal(builder.progress.processed, 5);
  add({role: 'assistant', content: ''}, {}, 90);
  add({reasoning_content: 'Hm.'}, {}, 100);
  add({content: 'So'}, {}, 200);
  add({tool_calls: [{index: 0, id: 'a', function: {name: 'f', arguments: '{"x"'}}]}, {}, 300);
  add({tool_calls: [{index: 1, id: 'b', function: {name: 'g', arguments: '{}'}}]}, {}, 400);
  add({tool_calls: [{index: 0, function: {arguments: ':1}'}}]}, {}, 500);
  add({}, {finish_reason: 'tool_calls'}, 1100);
  builder.add({choices: [], usage: {prompt_tokens: 10, completion_tokens: 11,
                                    prompt_tokens_details: {cached_tokens: 8}}}, 1100);
  assert.equal(node.reasoning, 'Hm.');
  assert.equal(node.content, 'So');
  assert.deepEqual(node.calls, [{id: 'a', name: 'f', arguments: '{"x":1}'},
                                {id: 'b', name: 'g', arguments: '{}'}]);
  assert.equal(node.finish, 'tool_calls');
  const stats = builder.stats(1100);
  assert.equal(stats.rate, 10);
  assert.equal(stats.firstSeconds, 0.1);
  assert.equal(stats.cached, 8);
});

function conversation() {
  const made = tree.newConversation('c', 1);
  const user = tree.addNode(made, tree.ROOT, {role: 'user', content: 'one'});
  const answer = tree.addNode(made, user.id, {...tree.newAnswer(), content: 'first'});
  const other = tree.addNode(made, user.id, {...tree.newAnswer(), content: 'second'});
  return {made, user, answer, other};
}

test('branches part, are gone to, and come back as they were read', () => {
  const {made, user, answer, other} = conversation();
  const deep = tree.addNode(made, other.id, {role: 'user', content: 'more'});
  const read = () => tree.currentPath(made).map((node) => node.content).join(' ');
  assert.equal(read(), 'one second more');
  tree.goTo(made, answer.id);
  assert.equal(read(), 'one first');
  tree.goTo(made, other.id);
  assert.equal(read(), 'one second more');
  assert.deepEqual(tree.siblings(made, answer.id), {ids: [answer.id, other.id], index: 0});
  assert.deepEqual(tree.rows(made).map((row) => [row.node.id, row.column, row.above, row.current]),
                   [[user.id, 0, -1, true], [answer.id, 1, 0, false], [other.id, 1, 0, true],
                    [deep.id, 1, 2, true]]);
  tree.removeNode(made, other.id);
  assert.equal(read(), 'one first');
  assert.equal(made.nodes[deep.id], undefined);
});

test('the same branch gives the same messages, so that its beginning is computed once', () => {
  const {made, other} = conversation();
  other.reasoning = 'hm';
  other.calls = [{id: 'a', name: 'f', arguments: '{}'}];
  const results = tree.addNode(made, other.id, {role: 'tool', results: [{id: 'a', content: '7'}]});
  assert.deepEqual(tree.toMessages(made, results.id, 'Be brief.'), [
    {role: 'system', content: 'Be brief.'}, {role: 'user', content: 'one'},
    {role: 'assistant', content: 'second', reasoning_content: 'hm',
     tool_calls: [{id: 'a', type: 'function', function: {name: 'f', arguments: '{}'}}]},
    {role: 'tool', tool_call_id: 'a', content: '7'},
  ]);
});

test('what is stored comes back, and what is no tree is refused', () => {
  const {made, user, answer} = conversation();
  const copy = () => JSON.parse(JSON.stringify(made));
  assert.deepEqual(tree.checkedConversation(copy()), made);
  const refuse = (change) => {
    const raw = copy();
    change(raw);
    assert.equal(tree.checkedConversation(raw), null, String(change));
  };
  refuse((raw) => { raw.version = 2; });
  refuse((raw) => { raw.nodes[answer.id].children = [user.id]; });  // a circle
  refuse((raw) => { raw.nodes[user.id].children.push('n99'); });
  refuse((raw) => { raw.nodes[user.id].parent = answer.id; });
  refuse((raw) => { raw.nodes.n50 = {id: 'n50', parent: 'n0', children: [], role: 'user'}; });
  refuse((raw) => { raw.nodes[user.id].role = 'system'; });
  refuse((raw) => { raw.nodes[user.id].children = 7; });
  refuse((raw) => { delete raw.nodes.n0; });
  for (const raw of [null, 1, 'x', [], {}, {version: 1, nodes: null}]) {
    assert.equal(tree.checkedConversation(raw), null);
  }
});
