// What tests of training data share: the demo's tokenizer and template, templates of their own, and
// records written as JSON.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "text/template/chat_template.h"
#include "text/tokenizer/tokenizer.h"
#include "tune/data/encode.h"

namespace lode::tune::testing {

inline std::string SourceFile(const std::string& path) {
  auto text = ReadFile(std::string(LODE_SOURCE_DIR) + "/" + path);
  return text.ok() ? *std::move(text) : std::string();
}

inline const text::Tokenizer& DemoTokenizer() {
  static const auto tokenizer = text::Tokenizer::FromHuggingFace(
      SourceFile("models/demo/tokenizer.json"), SourceFile("models/demo/tokenizer_config.json"));
  return **tokenizer;
}

inline std::unique_ptr<text::ChatTemplate> Template(const std::string& source) {
  auto parsed = text::ChatTemplate::Parse(source);
  EXPECT_TRUE(parsed.ok()) << (parsed.ok() ? "" : parsed.error().ToString());
  return parsed.ok() ? *std::move(parsed) : nullptr;
}

inline TextSide SideOf(const text::ChatTemplate* chat_template) {
  return {.tokenizer = &DemoTokenizer(),
          .chat_template = chat_template,
          .bos = "<|bos|>",
          .eos = "<|im_end|>",
          .stop_ids = {}};
}

inline Encoder MakeEncoder(const text::ChatTemplate* chat_template,
                           const EncoderOptions& options = {}) {
  auto encoder = Encoder::Make(SideOf(chat_template), options);
  EXPECT_TRUE(encoder.ok()) << (encoder.ok() ? "" : encoder.error().ToString());
  return *std::move(encoder);
}

inline DataRecord RecordFrom(const std::string& json, const RecordOptions& options = {}) {
  auto record = ParseRecord(json, options);
  EXPECT_TRUE(record.ok()) << (record.ok() ? "" : record.error().ToString());
  return record.ok() ? *std::move(record) : DataRecord();
}

inline std::string WhyNot(const std::string& json, const RecordOptions& options = {}) {
  const auto record = ParseRecord(json, options);
  EXPECT_FALSE(record.ok()) << json;
  return record.ok() ? "" : record.error().ToString();
}

// The example's text with what is taught between [ and ].
inline std::string Marked(const Example& example, const text::Tokenizer& tokenizer) {
  std::string out;
  bool inside = false;
  for (size_t t = 0; t < example.tokens.size(); ++t) {
    const bool taught = example.weights[t] != 0;
    if (taught != inside) out += taught ? "[" : "]";
    inside = taught;
    out += tokenizer.TokenBytes(example.tokens[t]);
  }
  return inside ? out + "]" : out;
}

inline std::vector<std::string> MarkedAll(const Encoder& encoder, const DataRecord& record,
                                          Remarks* remarks = nullptr) {
  Remarks own;
  const auto examples = encoder.Encode(record, remarks == nullptr ? &own : remarks);
  EXPECT_TRUE(examples.ok()) << (examples.ok() ? "" : examples.error().ToString());
  std::vector<std::string> out;
  if (!examples.ok()) return out;
  for (const Example& example : *examples) out.push_back(Marked(example, encoder.tokenizer()));
  return out;
}

}  // namespace lode::tune::testing
