// The SDKs of OpenAI and Anthropic for Node, unmodified, against lode serve. node_sdk_test.py
// starts it.
//   SCRIPT_URL, DEMO_URL: servers; PACKAGES: the folder with node_modules
import assert from 'node:assert/strict';
import {createRequire} from 'node:module';
import {join} from 'node:path';
import {test} from 'node:test';
import {pathToFileURL} from 'node:url';

const require = createRequire(pathToFileURL(join(process.env.PACKAGES, 'package.json')));
const OpenAI = require('openai').OpenAI;
const {zodFunction, zodResponseFormat} = require('openai/helpers/zod');
const Anthropic = require('@anthropic-ai/sdk').Anthropic;
const {betaZodTool} = require('@anthropic-ai/sdk/helpers/beta/zod');
const {zodOutputFormat} = require('@anthropic-ai/sdk/helpers/zod');
const z = require('zod');

const openaiAt = (url) => new OpenAI({baseURL: url + '/v1', apiKey: 'x', maxRetries: 0});
const openai = openaiAt(process.env.SCRIPT_URL), demo = openaiAt(process.env.DEMO_URL);
const anthropic = new Anthropic({baseURL: process.env.SCRIPT_URL, apiKey: 'x', maxRetries: 0});

const Place = z.object({city: z.string(), days: z.number().int()});
const SCHEMA = {
  type: 'object',
  properties: {city: {type: 'string'}, days: {type: 'integer'}},
  required: ['city', 'days'],
};
const TOOLS =
    [{type: 'function', function: {name: 'weather', description: 'of a city', parameters: SCHEMA}}];
const CLAUDE_TOOLS = [{name: 'weather', description: 'of a city', input_schema: SCHEMA}];
const BOTH = [{city: 'Paris', days: 3}, {city: 'Köln ☂', days: 3}];

const user = (content) => [{role: 'user', content}];
const ask = (content, more = {}) => ({model: 'script', messages: user(content), ...more});
const say = (content, more = {}) => ({...ask(content, more), max_tokens: more.max_tokens ?? 4000});

async function all(stream) {
  const items = [];
  for await (const item of stream) items.push(item);
  return items;
}

// --- Chat Completions ---

test('a stream is the whole answer in pieces', async () => {
  const whole = await openai.chat.completions.create(ask('hi'));
  assert.equal(whole.choices[0].message.content, 'Hello there, ☃ friend.');
  const chunks = await all(await openai.chat.completions.create(
      ask('hi', {stream: true, stream_options: {include_usage: true}})));
  const text = chunks.map((c) => c.choices[0]?.delta.content ?? '').join('');
  assert.equal(text, whole.choices[0].message.content);
  assert.equal(new Set(chunks.map((c) => c.id)).size, 1);
  assert.deepEqual(chunks.at(-1).choices, []);
  assert.equal(chunks.at(-1).usage.completion_tokens, whole.usage.completion_tokens);
});

test('streamed tool calls are those of the whole answer', async () => {
  const whole = await openai.chat.completions.create(ask('two calls', {tools: TOOLS}));
  const streamed =
      await openai.chat.completions.stream(ask('two calls', {tools: TOOLS})).finalChatCompletion();
  for (const {choices: [choice]} of [whole, streamed]) {
    assert.equal(choice.finish_reason, 'tool_calls');
    assert.equal(choice.message.content.trim(), 'Both.');
    assert.deepEqual(choice.message.tool_calls.map((c) => JSON.parse(c.function.arguments)), BOTH);
    assert.equal(new Set(choice.message.tool_calls.map((c) => c.id)).size, 2);
  }
});

test('the runner of tools goes round, streamed and not', async () => {
  for (const stream of [false, true]) {
    const seen = [];
    const run = (place) => (seen.push(place), 'sunny');
    const runner = openai.chat.completions.runTools(ask('weather', {
      stream,
      tools: [zodFunction(
          {name: 'weather', description: 'of a city', parameters: Place, function: run})],
    }));
    assert.equal(await runner.finalContent(), 'It is sunny in Paris. END of it.');
    assert.deepEqual(seen, [{city: 'Paris', days: 3}]);
  }
});

test('structured answers parse, streamed and not', async () => {
  const body = ask('json', {response_format: zodResponseFormat(Place, 'place')});
  const whole = await openai.chat.completions.parse(body);
  assert.deepEqual(whole.choices[0].message.parsed, {city: 'Paris', days: 3});
  const streamed = await openai.chat.completions.stream(body).finalChatCompletion();
  assert.deepEqual(streamed.choices[0].message.parsed, {city: 'Paris', days: 3});
});

test('reasoning comes beside the answer', async () => {
  const chunks = await all(await openai.chat.completions.create(
      ask('think first', {tools: TOOLS, stream: true, reasoning_effort: 'high'})));
  assert.equal(
      chunks.map((c) => c.choices[0]?.delta.reasoning_content ?? '').join(''), 'Hm, Paris?\nYes.');
  assert.equal(chunks.at(-1).choices[0].finish_reason, 'tool_calls');
});

test('errors are of the kinds that the SDK knows', async () => {
  await assert.rejects(
      openai.chat.completions.create({...ask('x'), model: 'gpt-5'}),
      (e) => e instanceof OpenAI.NotFoundError && e.code === 'model_not_found');
  await assert.rejects(
      openai.chat.completions.create(ask('x', {temperature: -1})),
      (e) => e instanceof OpenAI.BadRequestError && e.param === 'temperature');
  await assert.rejects(openai.chat.completions.create(ask('break')), OpenAI.InternalServerError);
  // Before the first event or behind it, as it comes.
  const broken = async () =>
      all(await openai.chat.completions.create(ask('break', {stream: true})));
  await assert.rejects(broken, /lost a wheel/);
});

test('an aborted stream ends at once', async () => {
  const stream = await openai.chat.completions.create(ask('slowly', {stream: true}));
  let count = 0;
  for await (const _ of stream) {
    if (++count === 5) stream.controller.abort();
  }
  assert.ok(count < 20);
});

test('completions and models', async () => {
  const answer = await openai.completions.create(
      {model: 'script', prompt: ['one', 'two'], max_tokens: 5, echo: true});
  assert.deepEqual(answer.choices.map((c) => c.index), [0, 1]);
  assert.ok(answer.choices[0].text.startsWith('oneHello'));
  assert.deepEqual((await all(openai.models.list())).map((m) => m.id), ['script']);
});

// --- Responses ---

const FLAT_TOOLS = [
  {type: 'function', name: 'weather', description: 'of a city', parameters: SCHEMA, strict: false}
];

test('responses: calls and text, streamed and not', async () => {
  const body = {model: 'script', input: 'two calls', tools: FLAT_TOOLS};
  const whole = await openai.responses.create(body);
  const stream = openai.responses.stream(body);
  const events = await all(stream);
  const streamed = await stream.finalResponse();
  for (const response of [whole, streamed]) {
    const calls = response.output.filter((item) => item.type === 'function_call');
    assert.deepEqual(calls.map((c) => JSON.parse(c.arguments)), BOTH);
    assert.equal(response.output_text.trim(), 'Both.');
    assert.equal(response.status, 'completed');
  }
  assert.deepEqual(events.map((e) => e.sequence_number), events.map((_, i) => i));
});

test('responses: a structured answer parses', async () => {
  const {zodTextFormat} = require('openai/helpers/zod');
  const answer = await openai.responses.parse(
      {model: 'script', input: 'json', text: {format: zodTextFormat(Place, 'place')}});
  assert.deepEqual(answer.output_parsed, {city: 'Paris', days: 3});
});

// --- Messages ---

test('messages: whole and streamed agree', async () => {
  const whole = await anthropic.messages.create(say('two calls', {tools: CLAUDE_TOOLS}));
  const stream = anthropic.messages.stream(say('two calls', {tools: CLAUDE_TOOLS}));
  let pieces = '';
  stream.on('text', (text) => (pieces += text));
  const streamed = await stream.finalMessage();
  for (const message of [whole, streamed]) {
    assert.equal(message.stop_reason, 'tool_use');
    assert.deepEqual(message.content.map((b) => b.type), ['text', 'tool_use', 'tool_use']);
    assert.deepEqual(message.content.slice(1).map((b) => b.input), BOTH);
  }
  assert.equal(pieces.trim(), 'Both.');
  assert.equal(whole.usage.output_tokens, streamed.usage.output_tokens);
});

test('messages: thinking comes back with a signature, and may be sent again', async () => {
  const more = {
    tools: CLAUDE_TOOLS,
    max_tokens: 5000,
    thinking: {type: 'enabled', budget_tokens: 1024}
  };
  const first = await anthropic.messages.stream(say('think first', more)).finalMessage();
  assert.deepEqual(first.content.map((b) => b.type), ['thinking', 'tool_use']);
  assert.equal(first.content[0].thinking, 'Hm, Paris?\nYes.');
  assert.ok(first.content[0].signature);
  const messages = [
    ...user('think first'),
    {role: 'assistant', content: first.content},
    {
      role: 'user',
      content: [{type: 'tool_result', tool_use_id: first.content[1].id, content: 'sunny'}]
    },
  ];
  const second = await anthropic.messages.create(
      {model: 'script', max_tokens: 100, messages, tools: CLAUDE_TOOLS});
  assert.equal(second.content[0].text, 'It is sunny in Paris. END of it.');
});

test('messages: the runner of tools goes round, streamed and not', async () => {
  for (const stream of [false, true]) {
    const seen = [];
    const tool = betaZodTool({
      name: 'weather',
      description: 'of a city',
      inputSchema: Place,
      run: (place) => (seen.push(place), 'sunny'),
    });
    const runner = anthropic.beta.messages.toolRunner(say('weather', {tools: [tool], stream}));
    const last = await runner.runUntilDone();
    assert.equal(last.content[0].text, 'It is sunny in Paris. END of it.');
    assert.deepEqual(seen, [{city: 'Paris', days: 3}]);
  }
});

test('messages: a structured answer parses', async () => {
  const answer = await anthropic.messages.parse(
      say('json', {output_config: {format: zodOutputFormat(Place)}}));
  assert.deepEqual(answer.parsed_output, {city: 'Paris', days: 3});
});

test('messages: errors and counts', async () => {
  await assert.rejects(
      anthropic.messages.create({...say('x'), model: 'claude'}), Anthropic.NotFoundError);
  await assert.rejects(anthropic.messages.stream(say('break')).finalMessage(), Anthropic.APIError);
  const count = await anthropic.messages.countTokens(ask('weather', {tools: CLAUDE_TOOLS}));
  const used = (await anthropic.messages.create(say('weather', {tools: CLAUDE_TOOLS}))).usage;
  assert.equal(count.input_tokens, used.input_tokens + used.cache_read_input_tokens);
});

// --- A real model: its words do not matter, the protocol does ---

test('the demo model is held to a schema, in both dialects', async () => {
  const Pick = z.object({name: z.enum(['Rome', 'Verona']), many: z.boolean()});
  const body = {model: 'demo', messages: user('Which town?'), max_tokens: 60, temperature: 0};
  const chat = await demo.chat.completions.parse(
      {...body, response_format: zodResponseFormat(Pick, 'pick')});
  Pick.parse(chat.choices[0].message.parsed);
  const claude = new Anthropic({baseURL: process.env.DEMO_URL, apiKey: 'x', maxRetries: 0});
  const message =
      await claude.messages.parse({...body, output_config: {format: zodOutputFormat(Pick)}});
  Pick.parse(message.parsed_output);
});

test('the demo model must call a tool when it is told to', async () => {
  const Town = z.object({town: z.enum(['Rome', 'Verona'])});
  const tool = zodFunction({name: 'visit', parameters: Town});
  const answer = await demo.chat.completions
                     .stream({
                       model: 'demo',
                       messages: user('Go.'),
                       tools: [tool],
                       tool_choice: 'required',
                       max_tokens: 120,
                       temperature: 0,
                       parallel_tool_calls: false,
                     })
                     .finalChatCompletion();
  assert.equal(answer.choices[0].finish_reason, 'tool_calls');
  Town.parse(answer.choices[0].message.tool_calls[0].function.parsed_arguments);
});

test('embeddings have the same length in both encodings', async () => {
  const body = {model: 'demo', input: 'To be, or not to be'};
  const coded = (await demo.embeddings.create(body)).data[0].embedding;  // the SDK asks for base64
  const plain =
      (await demo.embeddings.create({...body, encoding_format: 'float'})).data[0].embedding;
  assert.equal(coded.length, plain.length);
  coded.forEach((x, i) => assert.ok(Math.abs(x - plain[i]) < 1e-6));
});
