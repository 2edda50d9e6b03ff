// What the test asks of OpenAI's JavaScript client; the answers go to stdout as one JSON object.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none", maxRetries: 0 });
const model = "ai/smollm2";
const question = [{ role: "user", content: "What is a container?" }];
// The model goes on with it in one way only: tests/runner/sure.py
const letters = "A B C D E F G H I J K L M";
const sure = ["user", "assistant", "user", "assistant", "user"].map((role) => ({ role, content: letters }));
const greedy = { model, messages: sure, max_tokens: 12, temperature: 0 };
const weather = {
  type: "function",
  function: {
    name: "get_weather",
    description: "The weather of a city",
    parameters: {
      type: "object",
      properties: { city: { type: "string", enum: ["Paris", "Rome"] } },
      required: ["city"],
      additionalProperties: false,
    },
  },
};

async function refused(work) {
  try {
    await work;
  } catch (error) {
    return { kind: error.constructor.name, status: error.status, code: error.code };
  }
  return null;
}

const whole = await client.chat.completions.create(greedy);

let streamed = "";
let usage = null;
const pieces = await client.chat.completions.create({ ...greedy, stream: true, stream_options: { include_usage: true } });
for await (const piece of pieces) {
  streamed += piece.choices[0]?.delta?.content ?? "";
  usage = piece.usage ?? usage;
}

const tool = await client.chat.completions
  .stream({ model, messages: question, tools: [weather], tool_choice: "required", temperature: 0 })
  .finalChatCompletion();

const vectors = await client.embeddings.create({ model, input: ["a small cat", "a little cat"] });
const models = [];
for await (const known of client.models.list()) models.push(known.id);

const answer = await client.responses.create({ model, input: "Hi", max_output_tokens: 8, temperature: 0 });
const kinds = [];
for await (const event of await client.responses.create({ model, input: "Hi", max_output_tokens: 8, temperature: 0, stream: true })) {
  kinds.push(event.type);
}

const aborting = new AbortController();
let before = 0;
const aborted = await refused(
  (async () => {
    const endless = await client.chat.completions.create(
      { model, messages: question, stream: true, ignore_eos: true },
      { signal: aborting.signal },
    );
    for await (const _ of endless) {
      before += 1;
      if (before === 3) aborting.abort();
    }
  })(),
);

console.log(
  JSON.stringify({
    whole: whole.choices[0].message.content,
    streamed,
    usage,
    call: tool.choices[0].message.tool_calls[0].function,
    widths: vectors.data.map((d) => d.embedding.length),
    models,
    response: { status: answer.status, text: answer.output_text },
    kinds,
    before,
    aborted,
    unknown: await refused(client.chat.completions.create({ ...greedy, model: "nobody/nothing" })),
    long: await refused(client.chat.completions.create({ ...greedy, messages: [{ role: "user", content: "word ".repeat(9000) }] })),
  }),
);
