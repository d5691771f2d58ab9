#include "serve/openai/embeddings.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/text.h"
#include "serve/openai/completion_request.h"

namespace lode::serve {
namespace {

// To length 1, summed in order.
std::vector<float> Normalised(std::vector<float> values) {
  double sum = 0.0;
  for (const float value : values) sum += double{value} * value;
  if (sum <= 0.0) return values;
  const double scale = 1.0 / std::sqrt(sum);
  for (float& value : values) value = static_cast<float>(value * scale);
  return values;
}

}  // namespace

std::string Base64Floats(const std::vector<float>& values) {
  static constexpr char kDigits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  for (const float value : values) {
    const auto bits = std::bit_cast<uint32_t>(value);
    for (int i = 0; i < 4; ++i) bytes += static_cast<char>(bits >> (8 * i) & 0xFF);
  }
  std::string text;
  for (size_t at = 0; at < bytes.size(); at += 3) {
    uint32_t word = 0;
    const size_t count = std::min<size_t>(3, bytes.size() - at);
    for (size_t i = 0; i < 3; ++i) {
      word = word << 8 | (i < count ? static_cast<unsigned char>(bytes[at + i]) : 0u);
    }
    for (size_t i = 0; i < 4; ++i) {
      text += i <= count ? kDigits[word >> (18 - 6 * i) & 63] : '=';
    }
  }
  return text;
}

Result<EmbeddingCall> ReadEmbeddingRequest(const Json& body, chat::Origin origin,
                                           const text::Tokenizer& tokenizer) {
  const Fields fields(body);
  EmbeddingCall call;
  LODE_ASSIGN(call.prompts, ReadPrompts(fields, "input", tokenizer));
  LODE_ASSIGN(const auto format, fields.String("encoding_format"));
  if (format && *format != "float" && *format != "base64") {
    return fields.Bad("encoding_format", "may be float or base64");
  }
  call.base64 = format && *format == "base64";
  if (fields.Find("dimensions") != nullptr) {
    return Error(Code::kUnsupported, "dimensions: this model's have one size");
  }
  LODE_ASSIGN(const chat::Origin own, ReadOrigin(fields, std::move(origin)));
  for (chat::CompletionRequest& prompt : call.prompts) {
    prompt.origin = own;
    prompt.rules.tokens_max = 0;
    prompt.rules.pool = true;
  }
  return call;
}

void EmbeddingWhole::Add(const chat::AnswerEvent& event, const chat::Usage&, std::string*) {
  if (event.kind != chat::AnswerEvent::Kind::kPooled) return;
  vectors_[static_cast<size_t>(event.choice)] = Normalised(event.pooled);
}

void EmbeddingWhole::End(const chat::Usage& usage, std::string* out) {
  Json data = Json::array();
  for (size_t i = 0; i < vectors_.size(); ++i) {
    const std::vector<float>& vector = vectors_[i];
    data.push_back({{"object", "embedding"},
                    {"index", i},
                    {"embedding", base64_ ? Json(Base64Floats(vector)) : Json(vector)}});
  }
  const Json whole = {
      {"object", "list"},
      {"data", std::move(data)},
      {"model", model_},
      {"usage", {{"prompt_tokens", usage.prompt}, {"total_tokens", usage.prompt}}},
      {"lode", {{"pooling", "the mean of the last hidden states of a model trained to talk"}}}};
  *out += DumpJson(whole);
}

}  // namespace lode::serve
