// Plain text to learn from: files and folders, cut into tokens, a part of it held out.
//
// Surprising policy: training sequences are windows at random places, so a text is not seen in
// epochs; where windows begin is a function of (seed, step, row). Documents follow one another with
// an end-of-document token between them, and a window may hold parts of several.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "tensor/source.h"
#include "text/tokenizer/tokenizer.h"
#include "train/trainer.h"
#include "tune/run_text.h"

namespace lode::tune {

struct CorpusOptions {
  // Files, or folders: every .txt and .md below. A .bin is a shard of tokens (data/shard.h).
  std::vector<std::string> training;
  std::vector<std::string> held_out;  // the same; none: the last part of the training text
  double held_out_share = 0.1;        // that part, of the text's bytes
  std::string tokenizer = "chars";    // "chars", "bytes", or "model": the checkpoint's
  const tensor::TensorSource* checkpoint = nullptr;  // with "model"
  std::string tokenizer_folder;                      // not empty: before `tokenizer`
  int64_t sequence = 256;                            // tokens of a window
  uint64_t seed = 1;
};

// Threads: const, so any. Life: the run's.
class Corpus {
 public:
  // Errors: kNotFound and kBadInput for files that are missing, no UTF-8, empty, or with less text
  // than one sequence.
  static Result<std::unique_ptr<Corpus>> Read(const CorpusOptions& options);

  // Appends sequence `row` of step `step` to a batch; each of its tokens counts `coefficient`.
  void AddTraining(int64_t step, int64_t row, float coefficient, train::PackedBatch* batch) const;
  // The sequences that are held out, 0 to held_out() - 1.
  int64_t held_out() const;
  void AddHeldOut(int64_t index, float coefficient, train::PackedBatch* batch) const;
  // Bytes of text that a token stands for.
  int64_t BytesOf(int32_t token) const;
  int64_t training_tokens() const { return std::ssize(training_); }
  // A number of all tokens and their order: a run goes on only with the same.
  uint64_t digest() const;

  const text::Tokenizer& tokenizer() const { return *text_.tokenizer; }
  // What belongs beside the weights of a checkpoint.
  const TextFiles& files() const { return text_.files; }
  int64_t held_out_tokens() const { return std::ssize(held_out_); }
  int64_t documents() const { return documents_; }
  uint64_t bytes() const { return (training_.capacity() + held_out_.capacity()) * sizeof(int32_t); }

 private:
  Corpus() = default;
  Result<void> Encode(const std::vector<std::string>& documents, std::vector<int32_t>* tokens);
  Result<void> AddShards(const std::vector<std::string>& paths, std::vector<int32_t>* tokens);
  void Add(const std::vector<int32_t>& tokens, size_t begin, float coefficient,
           train::PackedBatch* batch) const;

  RunText text_;
  int64_t sequence_ = 0, documents_ = 0;
  uint64_t seed_ = 0;
  std::vector<int32_t> training_, held_out_;
};

}  // namespace lode::tune
