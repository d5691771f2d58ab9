// The page in a real browser, against the real server with a scripted model. run.py starts it.
//   LODE: the program; CHROMIUM: the browser; PLAYWRIGHT: playwright-core's index.mjs
import assert from 'node:assert/strict';
import {spawn} from 'node:child_process';
import {createHash} from 'node:crypto';
import {mkdtempSync, readFileSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {after, before, test} from 'node:test';

const {chromium} = await import(process.env.PLAYWRIGHT);
const folder = mkdtempSync(join(tmpdir(), 'lode-page-'));

const HOSTILE = `<img src=x onerror="window.pwned=1"> <script>window.pwned=2</script>

[click](javascript:window.pwned=3) [data](data:text/html,<script>window.pwned=4</script>)
![leak](https://evil.example/leak.png) <svg onload="window.pwned=5"></svg>

<iframe src="https://evil.example/"></iframe> <style>body{display:none}</style>

| a | b |
|---|---|
| <img src=x onerror=window.pwned=6> | \`<script>window.pwned=7</script>\` |

\`\`\`html"><script>window.pwned=8</script>
<script>window.pwned=9</script>
\`\`\`
`;
const RICH = `## A heading

Some **bold** words, \`code\` and a [link](https://example.org/page).

1. one
   - inner
2. two

| part | bytes |
|---|---:|
| keys | 4096 |

\`\`\`cpp
int main() { return 0; }
\`\`\`
`;
const CALL = '<tool_call>\n<function=weather>\n<parameter=city>\nRome\n</parameter>\n' +
    '</function>\n</tool_call>\n';
const TOOLS = [{type: 'function', function: {
  name: 'weather', description: 'of a city',
  parameters: {type: 'object', properties: {city: {type: 'string'}}, required: ['city']}}}];
const SCRIPT = [
  {match: 'overview', text: RICH, delay_ms: 1},
  {match: 'slow', text: 'word '.repeat(400), delay_ms: 20},
  {match: 'hostile', text: HOSTILE},
  {match: 'ponder', text: 'First I look.\nThen I answer.</think>\nSo it is.', delay_ms: 3},
  {match: 'weather', text: 'Let me see.\n' + CALL, delay_ms: 1},
  {match: '21 degrees', text: 'It is warm in Rome.'},
  {match: 'break', text: 'So far', fail: 'the engine lost a wheel'},
  {match: null, text: 'A short answer.'},
];

// --- The server and the browser ------------------------------------------------------------------

const servers = [];

async function serve(...flags) {
  const script = join(folder, 'script.jsonl');
  writeFileSync(script, SCRIPT.map((line) => JSON.stringify(line)).join('\n') + '\n');
  const child = spawn(process.env.LODE, ['serve', `script:${script}`, '--port', '0', ...flags],
                      {stdio: ['ignore', 'pipe', 'ignore']});
  servers.push(child);
  let said = '';
  for await (const part of child.stdout) {
    said += part;
    const address = /listening on (http:\S+)/.exec(said)?.[1];
    if (address) return address;
  }
  throw new Error(`the server ended: ${said}`);
}

let browser, origin;

before(async () => {
  origin = await serve();
  browser = await chromium.launch({executablePath: process.env.CHROMIUM, args: ['--no-sandbox']});
});

after(async () => {
  await browser?.close();
  for (const server of servers) server.kill('SIGTERM');
  rmSync(folder, {recursive: true});
});

// A page that writes down what must never be: errors, and requests to anybody else.
async function open(options = {}, address = origin) {
  const context = await browser.newContext({viewport: {width: 1200, height: 800}, ...options});
  const page = await context.newPage();
  page.trouble = [];
  page.asked = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) page.trouble.push(message.text());
  });
  page.on('pageerror', (error) => page.trouble.push(String(error)));
  page.on('dialog', (dialog) => {
    page.trouble.push('a dialog: ' + dialog.message());
    dialog.dismiss();
  });
  context.on('request', (request) => {
    page.asked.push(request.url());
    if (!/^(blob:)?http/.test(request.url()) || !request.url().includes(new URL(address).host)) {
      page.trouble.push('a request to ' + request.url());
    }
  });
  page.setDefaultTimeout(15000);
  await page.goto(address);
  await page.waitForFunction(() => document.getElementById('model-name').textContent !== '');
  return page;
}

const idle = (page) => page.waitForSelector('#send:not([hidden])');

async function say(page, text) {
  await page.fill('#input', text);
  await page.press('#input', 'Enter');
  await page.waitForSelector('article.assistant');
  await idle(page);
}

async function close(page) {
  assert.deepEqual(page.trouble, []);
  await page.context().close();
}

const answers = (page) => page.locator('article.assistant .markdown').allInnerTexts();

// --- Tests ---------------------------------------------------------------------------------------

test('an answer streams in, and is told with its speed and what came from the cache', async () => {
  const page = await open();
  await page.fill('#input', 'something slow');
  await page.press('#input', 'Enter');
  const length = () => page.locator('.markdown').innerText().then((text) => text.length);
  await page.waitForFunction(() => document.querySelector('.markdown')?.innerText.length > 30);
  const early = await length();
  await page.waitForFunction((past) => document.querySelector('.markdown').innerText.length > past,
                             early);
  assert.match(await page.locator('#live').innerText(), /tok\/s · first token [\d.]+ m?s/);
  await page.press('#input', 'Escape');
  await idle(page);
  await say(page, 'overview');
  await say(page, 'and again');
  const stats = await page.locator('article.assistant .stats').last().innerText();
  assert.match(stats, /[\d,]+ of [\d,]+ read from cache/);
  await close(page);
});

test('Markdown becomes elements, and code can be copied', async () => {
  const page = await open({permissions: ['clipboard-read', 'clipboard-write']});
  await say(page, 'overview');
  const body = page.locator('.markdown');
  assert.equal(await body.locator('h4').innerText(), 'A heading');
  assert.equal(await body.locator('ol > li > ul > li').innerText(), 'inner');
  assert.equal(await body.locator('td').nth(1).innerText(), '4096');
  assert.equal(await body.locator('a').getAttribute('rel'), 'noopener noreferrer nofollow');
  await body.getByRole('button', {name: 'Copy code'}).click();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()),
               'int main() { return 0; }');
  await close(page);
});

test('hostile output stays text', async () => {
  const page = await open();
  await say(page, 'hostile');
  await page.waitForTimeout(300);
  assert.equal(await page.evaluate(() => window.pwned), undefined);
  const inside = '.markdown :is(script, img, iframe, svg:not(.icon), style, object, embed, form)';
  assert.equal(await page.locator(inside).count(), 0);
  const addresses = await page.locator('.markdown a').evaluateAll(
      (all) => all.map((one) => one.protocol));
  // The picture as a link, and an address that stands in a tag: both only if somebody clicks.
  assert.deepEqual(addresses, ['https:', 'https:']);
  assert.match(await page.locator('.markdown').innerText(), /<script>window\.pwned=2<\/script>/);
  assert.ok(await page.locator('body').isVisible());
  await close(page);
});

test('the browser itself refuses scripts, markup and strangers', async () => {
  const page = await open();
  const policy = (await page.request.get(origin)).headers()['content-security-policy'];
  assert.match(policy, /default-src 'self'/);
  assert.doesNotMatch(policy, /unsafe|\*/);
  const refused = await page.evaluate(() => {
    try {
      document.createElement('div').innerHTML = '<b>x</b>';
      return false;
    } catch (error) {
      return true;
    }
  });
  assert.ok(refused, 'trusted types are not on');
  const reached = await page.evaluate(() => fetch('https://evil.example/').then(() => true,
                                                                              () => false));
  assert.equal(reached, false);
  assert.ok(page.trouble.some((one) => one.includes('Content Security Policy')));
  await page.context().close();
});

test('an edited message is a branch, and the way back is open', async () => {
  const page = await open();
  await say(page, 'overview');
  await say(page, 'the second');
  await page.locator('article.user').nth(1).hover();
  await page.getByRole('button', {name: 'Edit and branch'}).nth(1).click();
  await page.locator('.edit textarea').fill('another second');
  await page.locator('.edit textarea').press('Enter');
  await idle(page);
  assert.equal(await page.locator('article.user .said').nth(1).innerText(), 'another second');
  assert.match(await page.locator('.switch').innerText(), /2 of 2/);
  await page.getByRole('button', {name: 'Answer again, as a branch'}).nth(1).click();
  await idle(page);
  assert.equal(await page.locator('.switch').count(), 2);
  await page.getByRole('button', {name: 'Branch before'}).first().click();
  assert.equal(await page.locator('article.user .said').nth(1).innerText(), 'the second');
  // The same in the picture of the tree, after the page was loaded anew.
  await page.reload();
  assert.equal(await page.locator('article.user .said').nth(1).innerText(), 'the second');
  await page.click('#tree-toggle');
  assert.equal(await page.getByRole('treeitem').count(), 7);
  await page.getByRole('treeitem', {name: 'You: another second'}).click();
  assert.equal(await page.locator('article.user .said').nth(1).innerText(), 'another second');
  assert.equal(await page.locator('[role=treeitem][aria-current]').count(), 4);
  await close(page);
});

test('a branch is computed from where it parts', async () => {
  const page = await open();
  await say(page, 'overview');
  await say(page, 'tell me more');
  await page.getByRole('button', {name: 'Answer again, as a branch'}).nth(1).click();
  await idle(page);
  const stats = await page.locator('.stats').last().innerText();
  const [, cached, prompt] = /([\d,]+) of ([\d,]+) read from cache/.exec(stats);
  assert.ok(Number(cached.replace(',', '')) > 0.8 * Number(prompt.replace(',', '')), stats);
  await close(page);
});

test('an answer stops, keeps what there was, and leaves nothing running', async () => {
  const page = await open();
  await page.fill('#input', 'something slow');
  await page.press('#input', 'Enter');
  await page.waitForFunction(() => document.querySelector('.markdown')?.innerText.length > 30);
  await page.click('#stop');
  await idle(page);
  assert.match((await answers(page))[0], /^word word/);
  assert.equal(await page.locator('.turn-note').innerText(), 'Stopped.');
  for (let i = 0; ; i += 1) {
    const health = await (await page.request.get(origin + '/health')).json();
    if (health.running === 0) break;
    assert.ok(i < 50, 'the server still runs it');
    await page.waitForTimeout(100);
  }
  await say(page, 'go on');
  assert.equal((await answers(page)).length, 2);
  await close(page);
});

test('thoughts fold away, calls show their arguments, and results go back', async () => {
  const page = await open();
  await page.click('#settings-open');
  await page.selectOption('[name=reasoning_effort]', 'high');
  await page.keyboard.press('Escape');
  await say(page, 'ponder');
  assert.match(await page.locator('.thinking summary').innerText(), /^Thought/);
  assert.equal(await page.locator('.thinking').getAttribute('open'), null);
  await page.locator('.thinking summary').click();
  assert.match(await page.locator('.thoughts').innerText(), /First I look\.\s+Then I answer\./);
  assert.equal((await answers(page))[0], 'So it is.');
  await page.click('#settings-open');
  await page.selectOption('[name=reasoning_effort]', 'none');
  await page.fill('[name=tools]', JSON.stringify(TOOLS));
  await page.keyboard.press('Escape');
  await say(page, 'the weather in Rome?');
  assert.equal(await page.locator('.call-name').innerText(), 'weather');
  assert.deepEqual(JSON.parse(await page.locator('.call code').innerText()), {city: 'Rome'});
  await page.getByLabel('Result of weather').fill('21 degrees');
  await page.getByRole('button', {name: 'Send the results'}).click();
  await page.waitForFunction(() => document.querySelectorAll('article.assistant').length === 3);
  await idle(page);
  assert.equal((await answers(page))[2], 'It is warm in Rome.');
  await close(page);
});

test('it can be used with the keyboard alone', async () => {
  const page = await open();
  const focused = () => page.evaluate(() => document.activeElement.id ||
                                      document.activeElement.getAttribute('aria-label'));
  assert.equal(await focused(), 'input');
  await page.keyboard.type('one');
  await page.keyboard.press('Shift+Enter');
  await page.keyboard.type('two');
  assert.equal(await page.inputValue('#input'), 'one\ntwo');
  await page.keyboard.press('Enter');
  await page.waitForSelector('article.assistant .stats');
  assert.equal(await focused(), 'input');
  // From the top: the skip link, then the list, then the head, then the conversation.
  await page.focus('.skip');
  const order = [];
  for (let i = 0; i < 30 && order.at(-1) !== 'send'; i += 1) {
    await page.keyboard.press('Tab');
    order.push(await focused());
    const ring = await page.evaluate(() => {
      const style = getComputedStyle(document.activeElement);
      const field = document.activeElement.closest('.field');
      return style.outlineStyle !== 'none' ||
          (field && getComputedStyle(field).borderColor !== getComputedStyle(document.body).color);
    });
    assert.ok(ring, `${order.at(-1)} does not show its focus`);
  }
  const places = ['new-chat', 'title', 'tree-toggle', 'settings-open', 'Edit and branch',
                  'Answer again, as a branch', 'input', 'send'].map((name) => order.indexOf(name));
  assert.ok(places.every((place) => place >= 0), order.join(', '));
  assert.deepEqual([...places].sort((a, b) => a - b), places, order.join(', '));
  // Stop with Escape; the tree with arrows.
  await page.focus('#input');
  await page.keyboard.type('something slow');
  await page.keyboard.press('Enter');
  await page.waitForFunction(
      () => [...document.querySelectorAll('.markdown')].at(-1)?.innerText.length > 20);
  await page.keyboard.press('Escape');
  await idle(page);
  await page.focus('#tree-toggle');
  await page.keyboard.press('Enter');
  await page.keyboard.press('Home');
  assert.equal(await focused(), 'You: one two');
  await page.keyboard.press('ArrowDown');
  assert.equal(await focused(), 'Answer: A short answer.');
  await page.keyboard.press('Escape');
  assert.equal(await focused(), 'tree-toggle');
  await close(page);
});

test('screen readers hear sentences, not tokens', async () => {
  const page = await open();
  assert.equal(await page.locator('#turns').getAttribute('aria-live'), 'off');
  const region = page.locator('#announcer');
  assert.equal(await region.getAttribute('aria-live'), 'polite');
  await page.evaluate(() => {
    window.heard = [];
    new MutationObserver(() => {
      window.heard.push(document.getElementById('announcer').textContent);
    }).observe(document.getElementById('announcer'), {childList: true});
  });
  await say(page, 'hello');
  assert.deepEqual(await page.evaluate(() => window.heard),
                   ['Answering', 'A short answer. End of the answer.']);
  const nameless = await page.locator('button, a, input, textarea, select').evaluateAll((all) => (
      all.filter((one) => !one.hidden && one.type !== 'file' && !one.ariaLabel &&
                 !one.innerText?.trim() && !one.labels?.length).map((one) => one.outerHTML)));
  assert.deepEqual(nameless, []);
  await close(page);
});

// WCAG's contrast of two colours, as getComputedStyle writes them.
function contrast(one, other) {
  const [a, b] = [one, other].map((colour) => {
    const parts = colour.match(/[\d.]+/g).slice(0, 3).map((part) => {
      const value = Number(part) / 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  });
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}

test('light and dark follow the system, or the switch, and can be read', async () => {
  const colours = (page) => page.evaluate(() => {
    const probe = document.body.appendChild(document.createElement('i'));
    const value = (name) => {
      probe.style.color = `var(--${name})`;
      return getComputedStyle(probe).color;
    };
    const all = Object.fromEntries(['ground', 'side', 'raised', 'soft', 'text', 'quiet', 'accent',
                                    'on-accent', 'bad'].map((name) => [name, value(name)]));
    probe.remove();
    return all;
  });
  const seen = {};
  for (const scheme of ['light', 'dark']) {
    const page = await open({colorScheme: scheme});
    const all = seen[scheme] = await colours(page);
    for (const ground of ['ground', 'side', 'raised', 'soft']) {
      for (const ink of ['text', 'quiet']) {
        assert.ok(contrast(all[ink], all[ground]) >= 4.5, `${scheme}: ${ink} on ${ground}`);
      }
    }
    assert.ok(contrast(all.accent, all.ground) >= 4.5 && contrast(all.bad, all.ground) >= 4.5);
    assert.ok(contrast(all['on-accent'], all.accent) >= 4.5);
    await close(page);
  }
  assert.notEqual(seen.light.ground, seen.dark.ground);
  const page = await open({colorScheme: 'light'});
  await page.click('#theme');  // light
  await page.click('#theme');  // dark
  await page.reload();
  assert.deepEqual(await colours(page), seen.dark);
  await close(page);
});

test('who wants no motion gets none', async () => {
  const page = await open({reducedMotion: 'reduce'});
  await page.fill('#input', 'something slow');
  await page.press('#input', 'Enter');
  await page.waitForSelector('article.live');
  assert.equal(await page.evaluate(
      () => document.getAnimations().filter((one) => one.playState === 'running').length), 0);
  await page.click('#stop');
  await idle(page);
  await close(page);
});

test('a telephone is wide enough', async () => {
  const page = await open({viewport: {width: 390, height: 800}});
  await say(page, 'overview');
  assert.ok(await page.evaluate(
      () => document.documentElement.scrollWidth <= innerWidth &&
          document.getElementById('scroll').scrollWidth <= innerWidth));
  await page.click('#side-open');
  await page.getByRole('button', {name: 'New conversation'}).click();
  assert.ok(await page.locator('#welcome').isVisible());
  await close(page);
});

test('a conversation is exported, deleted and imported', async () => {
  const page = await open();
  await say(page, 'overview');
  const [download] = await Promise.all([page.waitForEvent('download'), page.click('#export')]);
  const file = join(folder, 'conversation.json');
  await download.saveAs(file);
  assert.equal(JSON.parse(readFileSync(file, 'utf8')).version, 1);
  await page.locator('#chats li').hover();
  await page.getByRole('button', {name: 'Delete overview'}).click();
  await page.getByRole('button', {name: 'Press again to delete'}).click();
  assert.equal(await page.locator('article').count(), 0);
  await page.setInputFiles('#import-file', file);
  await page.waitForSelector('article.assistant');
  assert.equal(await page.locator('article.user .said').innerText(), 'overview');
  writeFileSync(file, '{"version": 1, "nodes": {"n0": {}}}');
  await page.setInputFiles('#import-file', file);
  await page.waitForSelector('#notice:not([hidden])');
  await close(page);
});

test('what the server refuses, and where it breaks, is said', async () => {
  const page = await open();
  await page.evaluate(() => localStorage.setItem('lode.settings', '{"temperature": "-5"}'));
  await page.reload();
  await say(page, 'hello');
  assert.match(await page.locator('.turn-note.bad').innerText(), /temperature/);
  await page.evaluate(() => localStorage.removeItem('lode.settings'));
  await page.reload();
  await say(page, 'break');
  assert.match(await page.locator('.turn-note.bad').last().innerText(), /lost a wheel/);
  page.trouble = page.trouble.filter((one) => !one.includes('status of 400'));
  await close(page);
});

test('a key is asked for where one is needed', async () => {
  const keys = join(folder, 'keys');
  const digest = createHash('sha256').update('s3cret').digest('hex');
  writeFileSync(keys, `alice ${digest}\n`);
  const page = await open({}, await serve('--keys', keys));
  await page.waitForSelector('#settings[open]');
  assert.equal(await page.evaluate(() => document.activeElement.name), 'key');
  await page.keyboard.type('s3cret');
  await page.keyboard.press('Escape');
  await page.waitForSelector('#status:not([hidden])');
  await say(page, 'hello');
  assert.equal((await answers(page))[0], 'A short answer.');
  const kept = await page.evaluate(() => JSON.stringify({...localStorage}));
  assert.ok(!kept.includes('s3cret'), 'the key is kept beyond the tab');
  page.trouble = page.trouble.filter((one) => !one.includes('status of 401'));
  await close(page);
});

test('the server tells what it does', async () => {
  const page = await open();
  await say(page, 'overview');
  await page.waitForSelector('#status:not([hidden])');
  const text = await page.locator('#status').innerText();
  for (const row of ['Running', 'From cache', 'Memory']) assert.ok(text.includes(row), text);
  assert.equal(await page.locator('#model-name').innerText(), 'script');
  assert.match(await page.locator('#context-text').innerText(), /of [\d,]+/);
  await close(page);
});
