// Chat Completions and Completions: the site's routes of this dialect.
#include <ctime>
#include <utility>

#include "serve/app.h"
#include "serve/openai/chat_request.h"
#include "serve/openai/chat_writer.h"
#include "serve/openai/completion_request.h"
#include "serve/openai/completion_writer.h"
#include "serve/openai/embeddings.h"

namespace lode::serve {

Result<Reaction> App::ChatCompletions(const HttpRequest& request, const Json& body, Wake wake) {
  LODE_TRY(CheckModel(body));
  LODE_ASSIGN(ChatCall call, ReadChatRequest(body, Limits(), OriginOf(request)));
  if (const auto named = request.Header("x-lode-context"); call.use.id.empty()) {
    call.use.id = named;
  }
  LODE_TRY(BindContext(call.use, &call.request));
  LODE_ASSIGN(auto answer, service_->Chat(call.request, std::move(wake)));
  const CompletionHead head = {NewId("chatcmpl-"),
                               GetString(body, "model", options_.models.front()),
                               static_cast<int64_t>(std::time(nullptr))};
  const bool logprobs = call.request.rules.logprobs >= 0;
  const text::Tokenizer* tokenizer = &service_->tokenizer();
  std::unique_ptr<AnswerWriter> writer;
  if (call.stream.stream) {
    writer = std::make_unique<ChatChunks>(head, call.stream, call.include_reasoning, logprobs,
                                          tokenizer);
  } else {
    writer = std::make_unique<ChatWhole>(head, call.request.rules.choices, call.include_reasoning,
                                         logprobs, tokenizer);
  }
  Json chunk = Json::object();
  if (call.stream.stream) {
    chunk = {{"id", head.id},
             {"object", "chat.completion.chunk"},
             {"created", head.created},
             {"model", head.model}};
  }
  writer = TellReuse(call.use, call.request.turn, answer.get(), std::move(chunk),
                     std::move(writer));
  return MakeReaction(request, std::move(answer), std::move(writer), call.stream.stream);
}

Result<Reaction> App::Completions(const HttpRequest& request, const Json& body, Wake wake) {
  LODE_TRY(CheckModel(body));
  const text::Tokenizer* tokenizer = &service_->tokenizer();
  LODE_ASSIGN(CompletionCall call,
              ReadCompletionRequest(body, Limits(), OriginOf(request), *tokenizer));
  if (!call.use.id.empty() && (call.prompts.size() != 1 || call.echo)) {
    return Error(Code::kBadInput, "context: takes one prompt, which is not echoed");
  }
  LODE_TRY(BindContext(call.use, &call.prompts.front()));
  const chat::AnswerRules& rules = call.prompts.front().rules;
  CompletionShape shape;
  shape.head = {NewId("cmpl-"), GetString(body, "model", options_.models.front()),
                static_cast<int64_t>(std::time(nullptr))};
  shape.per_prompt = rules.choices;
  shape.choices = rules.choices * static_cast<int>(call.prompts.size());
  shape.logprobs = rules.logprobs >= 0;
  for (const chat::CompletionRequest& prompt : call.prompts) {
    if (!call.echo) break;
    EchoedPrompt echoed = {prompt.said, {}};
    for (const int32_t token : prompt.prompt) {
      if (shape.logprobs) echoed.tokens.push_back({token, 0.0, {}});
    }
    shape.echoed.push_back(std::move(echoed));
  }
  LODE_ASSIGN(auto answer, service_->Complete(call.prompts, std::move(wake)));
  std::unique_ptr<AnswerWriter> writer;
  Json chunk = Json::object();
  if (call.stream.stream) {
    chunk = {{"id", shape.head.id},
             {"object", "text_completion"},
             {"created", shape.head.created},
             {"model", shape.head.model}};
    writer = std::make_unique<CompletionChunks>(std::move(shape), call.stream, tokenizer);
  } else {
    writer = std::make_unique<CompletionWhole>(std::move(shape), tokenizer);
  }
  writer = TellReuse(call.use, call.prompts.front().turn, answer.get(), std::move(chunk),
                     std::move(writer));
  return MakeReaction(request, std::move(answer), std::move(writer), call.stream.stream);
}

Result<Reaction> App::Embeddings(const HttpRequest& request, const Json& body, Wake wake) {
  LODE_TRY(CheckModel(body));
  LODE_ASSIGN(const EmbeddingCall call,
              ReadEmbeddingRequest(body, OriginOf(request), service_->tokenizer()));
  LODE_ASSIGN(auto answer, service_->Complete(call.prompts, std::move(wake)));
  auto writer = std::make_unique<EmbeddingWhole>(GetString(body, "model", options_.models.front()),
                                                 call.prompts.size(), call.base64);
  return MakeReaction(request, std::move(answer), std::move(writer), false);
}

}  // namespace lode::serve
