// A model's description from one format's words to the other's, by the table of its family.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "formats/gguf.h"
#include "formats/gguf_writer.h"
#include "formats/hf_checkpoint.h"
#include "model/spec.h"
#include "tensor/dtype.h"

namespace lode::quant {

// general.* and {arch}.*: the family's fields and what llama.cpp needs beside them.
//   config: config.json, for what the spec leaves out; name: what the model is called.
void SetModelMetadata(const model::ModelSpec& spec, const Json& config, const std::string& name,
                      formats::GgufWriter* writer);
// general.file_type and general.quantization_version, by the type that most weights have.
void SetFileType(tensor::DType dtype, formats::GgufWriter* writer);

// tokenizer.* from tokenizer.json and its companions; `warnings` gets what GGUF cannot say.
// Errors: kBadInput for files that cannot be understood. Without a tokenizer.json nothing is set.
Result<void> SetVocabulary(const formats::HfCheckpoint& checkpoint, const model::ModelSpec& spec,
                           formats::GgufWriter* writer, std::vector<std::string>* warnings);

// config.json of a model whose GGUF remembers none.
std::string ConfigText(const model::ModelSpec& spec, const formats::GgufFile& file);
// tokenizer.json, tokenizer_config.json, generation_config.json and chat_template.jinja likewise, by
// name; without a byte-level BPE vocabulary a warning instead.
Result<std::map<std::string, std::string>> TokenizerTexts(const formats::GgufFile& file,
                                                          std::vector<std::string>* warnings);

}  // namespace lode::quant
