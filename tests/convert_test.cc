// Conversions over every fixture: to GGUF and back is the same bytes, converted models compute the same
// bits, quantized ones are near, and what goes wrong is a sentence that leaves nothing behind.
#include <gtest/gtest.h>

#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "formats/gguf.h"
#include "formats/gguf_writer.h"
#include "formats/open.h"
#include "model/bind.h"
#include "quant/codec.h"
#include "quant/convert.h"
#include "runtime/engine.h"
#include "tensor/blocks.h"
#include "tests/support/npy.h"
#include "tests/support/shared.h"

namespace lode {
namespace {

namespace fs = std::filesystem;
using quant::ConvertOptions;
using quant::ConvertReport;
using tensor::DType;

class Convert : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string path = (fs::temp_directory_path() / "lode-convert-XXXXXX").string();
    ASSERT_NE(::mkdtemp(path.data()), nullptr);
    folder_ = path;
  }
  void TearDown() override {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  std::string File(const std::string& name) const { return folder_ + "/" + name; }

  std::string folder_;
};

std::string Read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::string> Checkpoints() {
  std::vector<std::string> folders;
  for (const auto& entry : fs::directory_iterator(testing::TestFile("golden"))) {
    if (fs::exists(entry.path() / "config.json")) folders.push_back(entry.path().string());
  }
  folders.push_back(std::string(LODE_SOURCE_DIR) + "/models/demo");
  return folders;
}

std::vector<std::string> Ggufs() {
  std::vector<std::string> files;
  for (const auto& entry : fs::directory_iterator(testing::TestFile("golden/gguf"))) {
    const std::string path = entry.path().string();
    if (entry.path().extension() != ".gguf") continue;
    if (path.find("-of-") == std::string::npos || path.find("-00001-of-") != std::string::npos) {
      files.push_back(path);
    }
  }
  return files;
}

Result<ConvertReport> TryConvert(const std::string& in, const std::string& out,
                          const ConvertOptions& options = {}) {
  LODE_ASSIGN(const auto source, formats::OpenSource(in));
  return quant::Convert(*source, out, options);
}

ConvertReport MustConvert(const std::string& in, const std::string& out,
                      const ConvertOptions& options = {}) {
  auto report = TryConvert(in, out, options);
  EXPECT_TRUE(report.ok()) << in << ": " << (report.ok() ? "" : report.error().ToString());
  return report.ok() ? *report : ConvertReport();
}

ConvertOptions Type(DType type) {
  ConvertOptions options;
  options.type = type;
  options.threads = 2;
  return options;
}

// Logits of every position, the MTP head's behind them.
std::vector<float> Logits(const std::string& path, const std::vector<int32_t>& tokens) {
  auto source = formats::OpenSource(path);
  EXPECT_TRUE(source.ok()) << (source.ok() ? "" : source.error().ToString());
  if (!source.ok()) return {};
  auto model = model::Bind(std::shared_ptr<const tensor::TensorSource>(std::move(*source)));
  EXPECT_TRUE(model.ok()) << path << ": " << (model.ok() ? "" : model.error().ToString());
  if (!model.ok()) return {};
  runtime::EngineOptions options;
  options.context_tokens = 512;
  runtime::Engine engine(**model, options);
  auto sequence = engine.NewSequence();
  EXPECT_TRUE(sequence.ok());
  const auto width = static_cast<size_t>(engine.vocabulary());
  std::vector<float> logits(tokens.size() * width);
  EXPECT_TRUE(engine.Append(*sequence, tokens, logits.data(), true).ok());
  if ((*model)->spec.mtp.empty()) return logits;
  const size_t rows = tokens.size() - 1;
  const std::vector<float> hidden(
      engine.hidden(), engine.hidden() + rows * static_cast<size_t>((*model)->spec.width));
  std::vector<float> drafts(rows * width);
  const std::vector<int32_t> next(tokens.begin() + 1, tokens.end());
  EXPECT_TRUE(engine.Draft(*sequence, hidden, next, drafts.data()).ok());
  logits.insert(logits.end(), drafts.begin(), drafts.end());
  return logits;
}

double Farthest(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double worst = 0.0;
  for (size_t i = 0; i < a.size() && i < b.size(); ++i) {
    worst = std::max(worst, std::abs(double{a[i]} - double{b[i]}));
  }
  return worst;
}

void ExpectSameBits(const std::vector<float>& a, const std::vector<float>& b) {
  ASSERT_EQ(a.size(), b.size());
  ASSERT_FALSE(a.empty());
  EXPECT_EQ(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)), 0)
      << "max |difference| " << Farthest(a, b);
}

TEST_F(Convert, HuggingFaceToGgufAndBackIsTheSameBytes) {
  int files = 0;
  for (const std::string& folder : Checkpoints()) {
    SCOPED_TRACE(folder);
    const std::string name = fs::path(folder).filename().string();
    const ConvertReport there = MustConvert(folder, File(name + ".gguf"));
    EXPECT_TRUE(there.exact) << Join(there.warnings, "; ");
    const ConvertReport back = MustConvert(File(name + ".gguf"), File(name));
    EXPECT_TRUE(back.exact) << Join(back.warnings, "; ");
    for (const auto& entry : fs::directory_iterator(folder)) {
      if (entry.path().extension() == ".npy") continue;  // a fixture's answers, no part of a model
      const std::string file = entry.path().filename().string();
      EXPECT_TRUE(Read(entry.path().string()) == Read(File(name + "/" + file))) << file;
      ++files;
    }
  }
  EXPECT_GT(files, 60);
}

TEST_F(Convert, AConvertedModelComputesTheSame) {
  for (const std::string& folder : Checkpoints()) {
    SCOPED_TRACE(folder);
    const std::string name = fs::path(folder).filename().string();
    const bool demo = name == "demo";
    const auto tokens = testing::ReadTokens(
        demo ? testing::TestFile("golden/demo/tokens.txt") : folder + "/tokens.txt");
    MustConvert(folder, File(name + ".gguf"));
    const auto before = Logits(folder, tokens);
    const auto after = Logits(File(name + ".gguf"), tokens);
    if (Read(folder + "/config.json").find("quant") == std::string::npos &&
        !fs::exists(folder + "/hf_quant_config.json")) {
      ExpectSameBits(before, after);
    } else {  // the same numbers, but a scale may be applied behind the sum instead of before it
      EXPECT_LT(Farthest(before, after), 2e-3);
    }
  }
}

TEST_F(Convert, GgufToHuggingFaceKeepsEveryNumber) {
  for (const std::string& file : Ggufs()) {
    SCOPED_TRACE(file);
    const std::string name = fs::path(file).stem().string();
    const std::string base = file.find("-00001-of-") != std::string::npos
                                 ? file.substr(0, file.find("-00001-of-"))
                                 : file.substr(0, file.size() - 5);
    const auto tokens = testing::ReadTokens(base + ".tokens");
    MustConvert(file, File(name));
    MustConvert(File(name), File(name + ".back.gguf"));
    const auto before = Logits(file, tokens);
    EXPECT_LT(Farthest(before, Logits(File(name), tokens)), 5e-3);
    EXPECT_LT(Farthest(before, Logits(File(name + ".back.gguf"), tokens)), 5e-3);
    // Floats are the same floats; A_log is the logarithm, to the last bit that a float has.
    auto source = formats::OpenSource(file);
    auto back = formats::OpenSource(File(name + ".back.gguf"));
    auto folder = formats::OpenSource(File(name));
    ASSERT_TRUE(source.ok() && back.ok() && folder.ok());
    for (const auto& info : (*source)->tensors()) {
      const auto* other = (*back)->Find(info.name);
      ASSERT_NE(other, nullptr) << info.name;
      const auto a = (*source)->View(info).bytes;
      const auto b = (*back)->View(*other).bytes;
      if (EndsWith(info.name, ".ssm_a")) {
        const std::string layer = info.name.substr(4, info.name.find('.', 4) - 4);
        const auto* log = (*folder)->Find("backbone.layers." + layer + ".mixer.A_log");
        ASSERT_NE(log, nullptr);
        const auto logs = (*folder)->View(*log).bytes;
        for (size_t i = 0; i < a.size() / 4; ++i) {
          float x, y;
          std::memcpy(&x, a.data() + 4 * i, 4);
          std::memcpy(&y, logs.data() + 4 * i, 4);
          const double exact = std::log(-double{x});
          const auto rounded = static_cast<float>(exact);
          EXPECT_LE(std::abs(double{y} - exact),
                    std::abs(double{std::nextafter(rounded, 1e9f)} - double{rounded}));
        }
      } else if (info.dtype == other->dtype) {
        ASSERT_EQ(a.size(), b.size()) << info.name;
        EXPECT_EQ(std::memcmp(a.data(), b.data(), a.size()), 0) << info.name;
      } else {
        EXPECT_TRUE(other->dtype == DType::kF32 || other->dtype == DType::kBF16) << info.name;
      }
    }
  }
}

TEST_F(Convert, EveryTypeLoadsAndIsNear) {
  const std::string folder = std::string(LODE_SOURCE_DIR) + "/models/demo";
  const auto tokens = testing::ReadTokens(testing::TestFile("golden/demo/tokens.txt"));
  const auto truth = Logits(folder, tokens);
  const auto cosine = [&](const std::vector<float>& got) {
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < truth.size(); ++i) {
      ab += double{truth[i]} * got[i];
      aa += double{truth[i]} * truth[i];
      bb += double{got[i]} * got[i];
    }
    return ab / std::sqrt(aa * bb);
  };
  for (const std::string& name : quant::TypeNames()) {
    SCOPED_TRACE(name);
    const DType type = *tensor::DTypeFromName(name);
    const ConvertReport report = MustConvert(folder, File(name + ".gguf"), Type(type));
    EXPECT_GT(report.types.count(name), 0u);
    const int bits = tensor::Info(type).block_bytes * 8 / tensor::Info(type).block_elements;
    const double bound = bits >= 16 ? 0.99999 : bits >= 8 ? 0.9995 : bits >= 5 ? 0.99 : 0.97;
    EXPECT_GT(cosine(Logits(File(name + ".gguf"), tokens)), bound);
    auto file = formats::GgufFile::Open(File(name + ".gguf"));
    ASSERT_TRUE(file.ok());
    for (const auto& info : (*file)->tensors()) {
      const bool small = info.name.find("norm") != std::string::npos || info.shape.size() == 1 ||
                         info.name.find("ssm_conv1d") != std::string::npos ||
                         info.name.find("ffn_gate_inp") != std::string::npos ||
                         EndsWith(info.name, "ssm_a") || EndsWith(info.name, "ssm_d");
      EXPECT_EQ(info.dtype, small ? DType::kF32 : type) << info.name;
    }
    EXPECT_EQ((*file)->Has("lode.kept.names"), report.exact);
    EXPECT_EQ(report.exact, type == DType::kBF16);  // what it was before
    // A rounded GGUF goes back to an ordinary folder that loads.
    MustConvert(File(name + ".gguf"), File(name));
    EXPECT_GT(cosine(Logits(File(name), tokens)), bound);
    fs::remove_all(File(name));
    fs::remove(File(name + ".gguf"));
  }
}

TEST_F(Convert, GgufToGgufIsTheSameAsFromTheFolder) {
  const std::string folder = std::string(LODE_SOURCE_DIR) + "/models/demo";
  MustConvert(folder, File("a.gguf"));
  MustConvert(File("a.gguf"), File("copy.gguf"));
  EXPECT_TRUE(Read(File("a.gguf")) == Read(File("copy.gguf")));
  MustConvert(File("a.gguf"), File("b.gguf"), Type(DType::kQ8_0));
  MustConvert(folder, File("c.gguf"), Type(DType::kQ8_0));
  auto b = formats::OpenSource(File("b.gguf"));
  auto c = formats::OpenSource(File("c.gguf"));
  ASSERT_TRUE(b.ok() && c.ok());
  ASSERT_EQ((*b)->tensors().size(), (*c)->tensors().size());
  for (const auto& info : (*b)->tensors()) {
    const auto* other = (*c)->Find(info.name);
    ASSERT_NE(other, nullptr);
    const auto x = (*b)->View(info).bytes;
    const auto y = (*c)->View(*other).bytes;
    ASSERT_EQ(x.size(), y.size());
    EXPECT_EQ(std::memcmp(x.data(), y.data(), x.size()), 0) << info.name;
  }
}

TEST_F(Convert, AScaleBesideTheHeadIsMultipliedInWhenTheHeadChanges) {
  const std::string file = testing::TestFile("golden/gguf/mix-4bit.gguf");
  const auto tokens = testing::ReadTokens(testing::TestFile("golden/gguf/mix-4bit.tokens"));
  MustConvert(file, File("f32.gguf"), Type(DType::kF32));
  EXPECT_LT(Farthest(Logits(file, tokens), Logits(File("f32.gguf"), tokens)), 5e-3);
  auto source = formats::OpenSource(File("f32.gguf"));
  ASSERT_TRUE(source.ok());
  EXPECT_EQ((*source)->Find("output.scale"), nullptr);
}

TEST_F(Convert, RowsThatAreNoWholeBlocksBecomeF16AndAreReported) {
  const ConvertReport report =
      MustConvert(testing::TestFile("golden/moe-nano"), File("a.gguf"), Type(DType::kQ8_0));
  EXPECT_FALSE(report.fallbacks.empty());
  EXPECT_GT(report.types.count("f16"), 0u);
  EXPECT_FALSE(report.exact);
}

TEST_F(Convert, ARequantizedGgufGoesBackTheOrdinaryWayAndSaysSo) {
  MustConvert(testing::TestFile("golden/dense-head80"), File("a.gguf"));
  // As another program would: it keeps all metadata and changes a tensor's type.
  auto source = formats::GgufFile::Open(File("a.gguf"));
  ASSERT_TRUE(source.ok());
  formats::GgufWriter writer;
  for (const auto& entry : (*source)->entries()) writer.Set(entry);
  for (const auto& info : (*source)->tensors()) {
    writer.AddTensor(info.name, info.name == "output.weight" ? DType::kF32 : info.dtype, info.shape);
  }
  ASSERT_TRUE(writer.Begin(File("b.gguf")).ok());
  for (const auto& info : (*source)->tensors()) {
    const auto bytes = (*source)->View(info).bytes;
    if (info.name != "output.weight") {
      ASSERT_TRUE(writer.Write(bytes).ok());
      continue;
    }
    std::vector<float> values(bytes.size() / 2);
    tensor::DecodeBlocks(info.dtype, bytes.data(), static_cast<int64_t>(values.size()), values.data());
    ASSERT_TRUE(writer.Write(std::as_bytes(std::span(values))).ok());
  }
  ASSERT_TRUE(writer.Finish().ok());
  const ConvertReport report = MustConvert(File("b.gguf"), File("back"));
  EXPECT_FALSE(report.exact);
  ASSERT_FALSE(report.warnings.empty());
  EXPECT_NE(report.warnings.front().find("output.weight"), std::string::npos);
  const auto tokens = testing::ReadTokens(testing::TestFile("golden/dense-head80/tokens.txt"));
  EXPECT_LT(Farthest(Logits(File("b.gguf"), tokens), Logits(File("back"), tokens)), 1e-4);
}

TEST_F(Convert, AHostileRecordWritesNothingOutsideItsFolder) {
  MustConvert(testing::TestFile("golden/dense-head80"), File("a.gguf"));
  auto source = formats::GgufFile::Open(File("a.gguf"));
  ASSERT_TRUE(source.ok());
  for (const auto& [key, value] :
       {std::pair<std::string, std::string>{"lode.file.../../evil.json", "x"},
        {"lode.file..hidden.json", "x"},
        {"lode.file.evil.sh", "x"},
        {"lode.safetensors.../evil.safetensors", "{}"},
        {"lode.safetensors.model.safetensors", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1099511627776,"
                                               "1099511627776],\"data_offsets\":[0,4]}}"},
        {"lode.safetensors.model.safetensors", "{\"a\":"},
        {"lode.safetensors.model.safetensors",
         "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}"}}) {
    SCOPED_TRACE(key + " " + value);
    formats::GgufWriter writer;
    for (const auto& entry : (*source)->entries()) writer.Set(entry);
    writer.SetString(key, value);
    for (const auto& info : (*source)->tensors()) writer.AddTensor(info.name, info.dtype, info.shape);
    ASSERT_TRUE(writer.Begin(File("b.gguf")).ok());
    for (const auto& info : (*source)->tensors()) {
      ASSERT_TRUE(writer.Write((*source)->View(info).bytes).ok());
    }
    ASSERT_TRUE(writer.Finish().ok());
    const auto result = TryConvert(File("b.gguf"), File("back"));
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().code(), Code::kBadInput);
    EXPECT_FALSE(fs::exists(File("back")));
  }
}

TEST_F(Convert, WhatIsThereIsOnlyReplacedByForce) {
  const std::string model = testing::TestFile("golden/dense-head80");
  MustConvert(model, File("a.gguf"));
  EXPECT_FALSE(TryConvert(model, File("a.gguf")).ok());
  ConvertOptions force;
  force.force = true;
  MustConvert(model, File("a.gguf"), force);
  MustConvert(File("a.gguf"), File("folder"));
  EXPECT_FALSE(TryConvert(File("a.gguf"), File("folder")).ok());
  MustConvert(File("a.gguf"), File("folder"), force);
  // A folder that is no model is not thrown away, whatever the flag.
  fs::create_directories(File("home"));
  std::ofstream(File("home/letter.txt")) << "dear";
  EXPECT_FALSE(TryConvert(File("a.gguf"), File("home"), force).ok());
  EXPECT_EQ(Read(File("home/letter.txt")), "dear");
}

TEST_F(Convert, CancellingAndAFullDiskLeaveNothingBehind) {
  const std::string model = testing::TestFile("golden/moe-nano");
  MustConvert(model, File("in.gguf"));
  for (const std::string& out : {File("out.gguf"), File("out")}) {
    ConvertOptions cancel;
    int calls = 0;
    cancel.progress = [&](const quant::ConvertProgress& progress) {
      EXPECT_GT(progress.bytes_all, 0u);
      return ++calls < 10;
    };
    const auto result = TryConvert(EndsWith(out, ".gguf") ? model : File("in.gguf"), out, cancel);
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().code(), Code::kCancelled);
  }
  EXPECT_FALSE(TryConvert(model, File("none/such/folder.gguf")).ok());
  // A limit on the size of files fails writes as a full disk does, half-way.
  rlimit before;
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit small = before;
  small.rlim_cur = 100'000;
  const auto old = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto file = TryConvert(model, File("full.gguf"));
  const auto folder = TryConvert(File("in.gguf"), File("full"));
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, old);
  ASSERT_FALSE(file.ok());
  ASSERT_FALSE(folder.ok());
  EXPECT_NE(file.error().ToString().find("full.gguf"), std::string::npos);
  int left = 0;
  for (const auto& entry : fs::directory_iterator(folder_)) {
    ++left;
    EXPECT_EQ(entry.path().filename(), "in.gguf");
  }
  EXPECT_EQ(left, 1);
}

TEST_F(Convert, ShardsAreWrittenAndReadBack) {
  const std::string model = testing::TestFile("golden/latent-super");
  ConvertOptions options;
  options.shard_bytes_max = 100'000;
  const ConvertReport gguf = MustConvert(model, File("a.gguf"), options);
  EXPECT_GT(gguf.paths.size(), 2u);
  ASSERT_FALSE(gguf.paths.empty());
  MustConvert(gguf.paths.front(), File("back"));
  EXPECT_TRUE(Read(model + "/model.safetensors") == Read(File("back/model.safetensors")));
  const ConvertReport folder = MustConvert(model, File("sharded"), options);
  EXPECT_GT(folder.paths.size(), 2u);
  const auto tokens = testing::ReadTokens(model + "/tokens.txt");
  ExpectSameBits(Logits(model, tokens), Logits(File("sharded"), tokens));
}

TEST_F(Convert, QuantizedFoldersBecomePlainOnes) {
  const auto tokens = testing::ReadTokens(testing::TestFile("golden/modelopt-mixed/tokens.txt"));
  MustConvert(testing::TestFile("golden/modelopt-mixed"), File("f32"), Type(DType::kF32));
  EXPECT_FALSE(fs::exists(File("f32/hf_quant_config.json")));
  EXPECT_LT(Farthest(Logits(testing::TestFile("golden/modelopt-mixed"), tokens),
                     Logits(File("f32"), tokens)), 2e-3);
  EXPECT_FALSE(
      TryConvert(testing::TestFile("golden/modelopt-mixed"), File("q"), Type(DType::kQ8_0)).ok());
}

// Every code of FP8 and every pair of an FP4 with its scale comes back from what GGUF holds.
TEST(Codec, EveryFp8CodeComesBack) {
  std::vector<std::byte> codes(256);
  for (size_t i = 0; i < 256; ++i) codes[i] = static_cast<std::byte>(i);
  for (const auto& [dtype, inside] : {std::pair{DType::kBF16, false}, {DType::kF32, false},
                                      {DType::kF32, true}}) {
    quant::PartData part;
    part.coding = quant::Coding::kFp8;
    part.rows = 1;
    part.cols = 256;
    part.weight = codes.data();
    part.scale = 0.0123f;
    EXPECT_TRUE(quant::Recoverable(part, inside));
    std::vector<float> scratch(256);
    std::vector<std::byte> stored(1024);
    std::vector<std::byte> back(256);
    quant::StoreRows(part, 0, 1, dtype, inside, scratch.data(), stored.data());
    ASSERT_TRUE(quant::RecoverRows(part, 0, 1, dtype, inside, stored.data(), back.data()));
    EXPECT_EQ(back, codes);
  }
}

TEST(Codec, EveryFp4CodeComesBackUnderEveryScaleThatAllowsIt) {
  for (int scale = 0; scale < 256; ++scale) {
    std::vector<uint8_t> scales(4, static_cast<uint8_t>(scale));
    std::vector<std::byte> codes(32);
    for (size_t i = 0; i < 32; ++i) codes[i] = static_cast<std::byte>(i * 37 + 11);
    quant::PartData part;
    part.coding = quant::Coding::kNvfp4;
    part.rows = 1;
    part.cols = 64;
    part.weight = codes.data();
    part.block_scales = scales.data();
    std::vector<float> scratch(64);
    std::vector<std::byte> stored(256);
    std::vector<std::byte> back(32);
    const bool nan = (scale & 0x7F) == 0x7F;
    const bool zero = (scale & 0x7F) == 0;
    EXPECT_EQ(quant::Recoverable(part, false), !nan && !zero) << scale;
    EXPECT_EQ(quant::FitsUe4m3(std::as_bytes(std::span(scales))), scale < 0x7F) << scale;
    if (!nan && !zero) {
      quant::StoreRows(part, 0, 1, DType::kBF16, false, scratch.data(), stored.data());
      ASSERT_TRUE(quant::RecoverRows(part, 0, 1, DType::kBF16, false, stored.data(), back.data()));
      EXPECT_EQ(back, codes) << scale;
    }
    if (scale < 0x7F) {
      quant::StoreRows(part, 0, 1, DType::kNVFP4, false, scratch.data(), stored.data());
      std::vector<uint8_t> scales_back(4);
      quant::Nvfp4Scales(stored.data(), 64, scales_back.data());
      EXPECT_EQ(scales_back, scales);
      ASSERT_TRUE(quant::RecoverRows(part, 0, 1, DType::kNVFP4, false, stored.data(), back.data()));
      EXPECT_EQ(back, codes) << scale;
      // And GGUF's reader sees the numbers that ModelOpt's meant (but for the sign of zero).
      std::vector<float> want(64), got(64);
      tensor::DecodeNvfp4ModelOpt(reinterpret_cast<const uint8_t*>(codes.data()), scales.data(), 64,
                                  want.data());
      tensor::DecodeBlocks(DType::kNVFP4, stored.data(), 64, got.data());
      for (size_t i = 0; i < 64; ++i) EXPECT_EQ(want[i], got[i]) << scale << " " << i;
    }
  }
}

}  // namespace
}  // namespace lode
