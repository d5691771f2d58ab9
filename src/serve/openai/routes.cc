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
  LODE_ASSIGN(const ChatCall call, ReadChatRequest(body, Limits(), OriginOf(request)));
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
  return MakeReaction(request, std::move(answer), std::move(writer), call.stream.stream);
}

Result<Reaction> App::Completions(const HttpRequest& request, const Json& body, Wake wake) {
  LODE_TRY(CheckModel(body));
  const text::Tokenizer* tokenizer = &service_->tokenizer();
  LODE_ASSIGN(const CompletionCall call,
              ReadCompletionRequest(body, Limits(), OriginOf(request), *tokenizer));
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
  if (call.stream.stream) {
    writer = std::make_unique<CompletionChunks>(std::move(shape), call.stream, tokenizer);
  } else {
    writer = std::make_unique<CompletionWhole>(std::move(shape), tokenizer);
  }
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
