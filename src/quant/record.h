// What a GGUF remembers of the Hugging Face checkpoint it was made from, in its own metadata:
//   lode.version               u32
//   lode.file.NAME             a text file of the folder, whole
//   lode.safetensors.NAME      the header of a weight file, byte for byte: names, types, shapes, order
//   lode.kept.names, .bytes    tensors that the GGUF's own tensors do not give back, one after the other
// tokenizer.json lies under "tokenizer.huggingface.json", where other programs look for it too.
//
// Surprising policy: a record is somebody's input like the rest of the file. File names are checked
// before anything is written under them, and headers as those of a safetensors file.
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "formats/gguf.h"
#include "formats/gguf_writer.h"
#include "formats/hf_checkpoint.h"
#include "tensor/source.h"

namespace lode::quant {

struct RecordedFile {
  std::string name;
  std::string header;
  size_t begin = 0, end = 0;  // its tensors in `tensors`, in the order of their bytes
};

struct Record {
  std::map<std::string, std::string> texts;  // name -> content
  std::vector<RecordedFile> files;           // empty: the layout is not recorded
  std::vector<tensor::TensorInfo> tensors;
  std::unordered_map<std::string_view, std::span<const std::byte>> kept;  // names in the GGUF's map
};

// From a GGUF; empty when it has none. The spans live as long as `file`.
// Errors: kBadInput for a record that is damaged.
Result<Record> ReadRecord(const formats::GgufFile& file);

// The text files of a folder by name: JSON, Jinja, text and Markdown, the index of the weights
// included. Larger ones than 64 MB and those that are no UTF-8 are left out.
Result<std::map<std::string, std::string>> ReadTexts(const formats::HfCheckpoint& checkpoint);

// The headers of the weight files. False in `complete` when they hold tensors that the checkpoint
// does not give (unknown types, another model's part): then there is no way back to the same files.
Result<Record> ReadLayout(const formats::HfCheckpoint& checkpoint, bool* complete);

void WriteTexts(const std::map<std::string, std::string>& texts, formats::GgufWriter* writer);
void WriteLayout(const Record& layout, formats::GgufWriter* writer);
void WriteKept(const std::vector<std::string_view>& names, std::span<const std::byte> bytes,
               formats::GgufWriter* writer);

}  // namespace lode::quant
