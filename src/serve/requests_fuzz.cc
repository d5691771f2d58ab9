// Bodies of every dialect: whatever comes, the answer is a request or an error with a sentence.
#include <cstdlib>
#include <memory>

#include "base/check.h"
#include "serve/anthropic/message_request.h"
#include "serve/faults.h"
#include "serve/openai/chat_request.h"
#include "serve/openai/completion_request.h"
#include "serve/responses/response_items.h"
#include "serve/responses/response_request.h"

namespace lode::serve {
namespace {

const text::Tokenizer& SmallTokenizer() {
  static const std::unique_ptr<text::Tokenizer> tokenizer = [] {
    std::string json = R"({"added_tokens":[],"pre_tokenizer":{"type":"ByteLevel",)"
                       R"("add_prefix_space":false,"trim_offsets":false,"use_regex":false},)"
                       R"("decoder":{"type":"ByteLevel"},"model":{"type":"BPE","merges":[],)"
                       R"("vocab":{)";
    for (char c = 'a'; c <= 'z'; ++c) {
      json += (c == 'a' ? "\"" : ",\"") + std::string(1, c) + "\":" + std::to_string(c - 'a');
    }
    auto made = text::Tokenizer::FromHuggingFace(json + "}}}");
    LODE_CHECK(made.ok());
    return std::move(*made);
  }();
  return *tokenizer;
}

void Check(const Error& error) {
  LODE_CHECK(!error.message().empty());
  for (const Dialect dialect : {Dialect::kOpenAi, Dialect::kAnthropic}) {
    const HttpResponse response = ErrorResponse(dialect, ProblemOf(error), "id");
    LODE_CHECK(response.status >= 400 && response.status < 500);
    LODE_CHECK(ParseJson(response.body).ok());
  }
}

template <typename T>
void Check(const Result<T>& result) {
  if (!result.ok()) Check(result.error());
}

void CheckBody(std::string_view bytes) {
  LODE_CHECK(OpenThoughts(SealThoughts(bytes)) == bytes);
  OpenThoughts(bytes);
  const auto body = ParseBody(bytes);
  Check(body);
  if (!body.ok()) return;
  const FieldLimits limits = {26, 1000, 8};
  Check(ReadChatRequest(*body, limits, {}));
  Check(ReadMessageRequest(*body, limits, {}, false));
  Check(ReadMessageRequest(*body, limits, {}, true));
  Check(ReadResponseRequest(*body, limits, {}, Json::array()));
  Check(ReadCompletionRequest(*body, limits, {}, SmallTokenizer()));
  const Fields fields(*body);
  Check(ReadContextUse(fields));
  Check(ReadContextPlace(fields));
  Check(ReadNewContext(fields));
  Check(ReadContextChange(fields));
  Check(ReadContextSaving(fields));
  Check(ReadContextRestoring(fields));
}

}  // namespace
}  // namespace lode::serve

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  lode::serve::CheckBody({reinterpret_cast<const char*>(data), size});
  return 0;
}
