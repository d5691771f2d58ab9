// Quantizing whole models: what is chosen, what is written, what it costs, and what goes wrong.
#include <gtest/gtest.h>

#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/file.h"
#include "base/text.h"
#include "formats/gguf.h"
#include "formats/open.h"
#include "model/bind.h"
#include "quant/quantize.h"
#include "tests/support/shared.h"

namespace lode {
namespace {

namespace fs = std::filesystem;
using quant::Group;
using quant::QuantizeOptions;
using quant::QuantizeReport;
using tensor::DType;

class Quantize : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string path = (fs::temp_directory_path() / "lode-quantize-XXXXXX").string();
    ASSERT_NE(::mkdtemp(path.data()), nullptr);
    folder_ = path;
    demo_ = std::string(LODE_SOURCE_DIR) + "/models/demo";
  }
  void TearDown() override {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  std::string File(const std::string& name) const { return folder_ + "/" + name; }
  size_t Files() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(folder_), {}));
  }
  QuantizeReport Must(const std::string& in, const std::string& out, QuantizeOptions options) {
    auto report = Try(in, out, std::move(options));
    EXPECT_TRUE(report.ok()) << in << ": " << (report.ok() ? "" : report.error().ToString());
    return report.ok() ? std::move(*report) : QuantizeReport();
  }
  static Result<QuantizeReport> Try(const std::string& in, const std::string& out,
                                    QuantizeOptions options) {
    LODE_ASSIGN(const auto source, formats::OpenSource(in));
    return quant::Quantize(*source, out, options);
  }

  std::string folder_, demo_;
};

QuantizeOptions Type(const std::string& type) {
  QuantizeOptions options;
  options.policy.type = type;
  options.threads = 2;
  return options;
}

DType TypeIn(const QuantizeReport& report, const std::string& name) {
  for (const auto& matrix : report.matrices) {
    if (matrix.name == name) return matrix.to;
  }
  ADD_FAILURE() << "no matrix " << name;
  return DType::kF64;
}

std::string Read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

quant::Imatrix SomeImportance(const tensor::TensorSource& source) {
  quant::Imatrix imatrix;
  const auto matrices = quant::Matrices::Open(source);
  EXPECT_TRUE(matrices.ok());
  imatrix.datasets = {"nothing"};
  for (const auto& matrix : matrices->all()) {
    if (quant::GroupOf(matrix) == Group::kEmbedding) continue;
    auto& entry = imatrix.entries[matrix.slot.gguf];
    for (int64_t e = 0; e < matrix.experts; ++e) {
      const bool seen = e != 1;
      for (int64_t c = 0; c < matrix.cols; ++c) {
        entry.sums.push_back(seen ? std::exp(2.5f * std::sin(static_cast<float>(c * 7 + e))) : 0.0f);
      }
      entry.counts.push_back(seen ? 20 : 0);
    }
  }
  return imatrix;
}

TEST(Policy, StarsStandForAnythingAndCostNoMoreThanTheirPlaces) {
  EXPECT_TRUE(quant::MatchesPattern("blk.*.ffn_up.weight", "blk.12.ffn_up.weight"));
  EXPECT_TRUE(quant::MatchesPattern("*", ""));
  EXPECT_TRUE(quant::MatchesPattern("a*b*c", "abbbcc"));
  EXPECT_TRUE(quant::MatchesPattern("output.weight**", "output.weight"));
  EXPECT_FALSE(quant::MatchesPattern("a*b*c", "abbb"));
  EXPECT_FALSE(quant::MatchesPattern("blk.3.*", "blk.31.attn_q.weight"));
  EXPECT_FALSE(quant::MatchesPattern("", "a"));
  std::string stars;  // tried one star inside the other, this would not end
  for (int i = 0; i < 40; ++i) stars += "*a";
  EXPECT_FALSE(quant::MatchesPattern(stars + "b", std::string(300, 'a')));
}

TEST_F(Quantize, EveryTypeMakesAFileThatBindsAndLosesWhatItsBitsSay) {
  // Relative errors of the whole demo model's matrices, measured and rounded up.
  const std::pair<const char*, double> bounds[] = {
      {"f16", 0.0006},  {"bf16", 1e-9},    {"q8_0", 0.0065}, {"q6_k", 0.022},   {"q5_k_m", 0.045},
      {"q5_k_s", 0.045}, {"q5_1", 0.045},  {"q5_0", 0.05},   {"q4_k_m", 0.09},  {"q4_k_s", 0.09},
      {"q4_1", 0.09},   {"q4_0", 0.1},     {"4bit", 0.1},    {"iq4_nl", 0.09},  {"iq4_xs", 0.09},
      {"nvfp4", 0.1},   {"mxfp4", 0.14},   {"mxfp4_moe", 0.14}, {"q3_k_l", 0.18},
      {"q3_k_m", 0.18}, {"q3_k_s", 0.18},  {"q2_k", 0.33}};
  for (const auto& [type, bound] : bounds) {
    const std::string out = File(std::string(type) + ".gguf");
    const QuantizeReport report = Must(demo_, out, Type(type));
    for (const auto& matrix : report.matrices) {
      EXPECT_LT(matrix.error, bound) << type << " " << matrix.name;
    }
    EXPECT_TRUE(report.fallbacks.empty() || std::string(type) == "nvfp4") << type;
    auto source = formats::OpenSource(out);
    ASSERT_TRUE(source.ok());
    const auto model = model::Bind(std::shared_ptr<const tensor::TensorSource>(std::move(*source)));
    EXPECT_TRUE(model.ok()) << type << ": " << (model.ok() ? "" : model.error().ToString());
  }
  EXPECT_LT(fs::file_size(File("q4_k_m.gguf")), fs::file_size(File("q5_k_m.gguf")));
  EXPECT_LT(fs::file_size(File("q2_k.gguf")), fs::file_size(File("q3_k_s.gguf")));
}

TEST_F(Quantize, WhatIsWrittenIsWithinTheReportedErrorOfTheSource) {
  for (const char* type : {"nvfp4", "q4_k_m"}) {
    const QuantizeReport report = Must(demo_, File("m.gguf"), [&] {
      QuantizeOptions options = Type(type);
      options.force = true;
      return options;
    }());
    const auto in = formats::OpenSource(demo_);
    const auto out = formats::OpenSource(File("m.gguf"));
    ASSERT_TRUE(in.ok() && out.ok());
    const auto a = quant::Matrices::Open(**in);
    const auto b = quant::Matrices::Open(**out);
    ASSERT_TRUE(a.ok() && b.ok());
    for (size_t i = 0; i < a->all().size(); ++i) {
      const quant::Matrix& matrix = a->all()[i];
      const int64_t rows = matrix.experts * matrix.rows;
      std::vector<float> x(static_cast<size_t>(matrix.elements())), y(x.size());
      a->Decode(i, 0, rows, x.data());
      b->Decode(i, 0, rows, y.data());
      double error = 0, size = 0;
      for (size_t k = 0; k < x.size(); ++k) {
        error += std::pow(static_cast<double>(x[k] - y[k]), 2);
        size += std::pow(static_cast<double>(x[k]), 2);
      }
      EXPECT_NEAR(std::sqrt(error / size), report.matrices[i].error,
                  1e-6 + 1e-4 * report.matrices[i].error)
          << type << " " << matrix.slot.gguf;
    }
  }
}

TEST_F(Quantize, TheHeadIsFinerTheRouterStaysAndPoliciesOverrule) {
  const QuantizeReport plain = Must(demo_, File("a.gguf"), Type("q4_0"));
  EXPECT_EQ(TypeIn(plain, "output.weight"), DType::kQ6K);
  EXPECT_EQ(TypeIn(plain, "token_embd.weight"), DType::kQ4_0);
  EXPECT_EQ(TypeIn(plain, "blk.5.ffn_gate_inp.weight"), DType::kF32);
  const QuantizeReport four = Must(demo_, File("b.gguf"), Type("4bit"));
  EXPECT_EQ(TypeIn(four, "output.weight"), DType::kQ4_0);
  EXPECT_EQ(TypeIn(four, "token_embd.weight"), DType::kQ8_0);
  QuantizeOptions options = Type("Q4_0");
  const auto read = quant::ReadPolicy(
      R"({"experts": "mxfp4", "router": "bf16", "head": "q4_0",
          "tensors": {"blk.0.*": "q8_0", "blk.0.ssm_out.weight": "q5_k"}})",
      &options.policy);
  ASSERT_TRUE(read.ok()) << read.error().ToString();
  const QuantizeReport own = Must(demo_, File("c.gguf"), options);
  EXPECT_EQ(TypeIn(own, "blk.5.ffn_up_exps.weight"), DType::kMXFP4);
  EXPECT_EQ(TypeIn(own, "blk.5.ffn_gate_inp.weight"), DType::kBF16);
  EXPECT_EQ(TypeIn(own, "output.weight"), DType::kQ4_0);
  EXPECT_EQ(TypeIn(own, "blk.0.ssm_in.weight"), DType::kQ8_0);
  EXPECT_EQ(TypeIn(own, "blk.0.ssm_out.weight"), DType::kQ5K);
}

void ExpectError(const Result<QuantizeReport>& report, Code code,
                 const std::vector<std::string>& words) {
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.error().code(), code) << report.error().ToString();
  for (const std::string& word : words) {
    EXPECT_NE(report.error().ToString().find(word), std::string::npos)
        << word << " is not in: " << report.error().ToString();
  }
}

TEST_F(Quantize, APolicyThatNamesNothingIsAnErrorWithNearNames) {
  QuantizeOptions options = Type("q4_0");
  options.policy.tensors = {{"blk.0.ssm_inn.weight", DType::kQ8_0}};
  ExpectError(Try(demo_, File("a.gguf"), options), Code::kBadInput,
              {"blk.0.ssm_inn.weight", "blk.0.ssm_in.weight"});
  options.policy.tensors = {{"blk.77.*", DType::kQ8_0}};
  ExpectError(Try(demo_, File("a.gguf"), options), Code::kBadInput, {"blk.77.*", "there are"});
  options = Type("q4_0");
  options.policy.groups[Group::kExperts] = DType::kQ8_0;
  ExpectError(Try(testing::TestFile("golden/dense-head80"), File("a.gguf"), options),
              Code::kBadInput, {"experts", "the model has none"});
  ExpectError(Try(demo_, File("a.gguf"), Type("q9_0")), Code::kBadInput, {"q9_0", "q4_k_m"});
  ExpectError(Try(demo_, File("a.gguf"), Type("f8_e4m3")), Code::kUnsupported, {"FP8"});
  ExpectError(Try(demo_, File("folder"), Type("q4_0")), Code::kBadInput, {".gguf"});
  EXPECT_EQ(Files(), 0u);
  quant::TypePolicy policy;
  for (const char* bad : {"", "[]", "{", R"({"expert": "q4_0"})", R"({"head": 3})",
                          R"({"head": "q99"})", R"({"tensors": []})", R"({"head": "f8_e4m3"})"}) {
    EXPECT_FALSE(quant::ReadPolicy(bad, &policy).ok()) << bad;
  }
}

TEST_F(Quantize, WhereRowsAreNoWholeBlocksTheFallbackIsNamed) {
  const QuantizeReport report =
      Must(testing::TestFile("golden/moe-nano"), File("a.gguf"), Type("q4_k_m"));
  ASSERT_FALSE(report.fallbacks.empty());
  size_t other = 0;
  for (const auto& matrix : report.matrices) {
    const bool k = matrix.to == DType::kQ4K || matrix.to == DType::kQ6K;
    if (k || matrix.group == Group::kRouter) continue;
    ++other;
    EXPECT_NE(Join(report.fallbacks, "\n").find(matrix.name + " is "), std::string::npos)
        << matrix.name;
  }
  EXPECT_GT(other, 0u);
}

TEST_F(Quantize, TheSameBytesForAnyNumberOfThreadsAndFromEitherFormat) {
  QuantizeOptions one = Type("q4_k_m");
  one.threads = 1;
  Must(demo_, File("one.gguf"), one);
  Must(demo_, File("two.gguf"), Type("q4_k_m"));
  EXPECT_TRUE(Read(File("one.gguf")) == Read(File("two.gguf")));
  Must(demo_, File("bf16.gguf"), Type("bf16"));
  Must(File("bf16.gguf"), File("three.gguf"), Type("q4_k_m"));
  const auto a = formats::GgufFile::Open(File("one.gguf"));
  const auto b = formats::GgufFile::Open(File("three.gguf"));
  ASSERT_TRUE(a.ok() && b.ok());
  for (const auto& info : (*a)->tensors()) {
    const auto* twin = (*b)->Find(info.name);
    ASSERT_NE(twin, nullptr) << info.name;
    const auto x = (*a)->View(info).bytes;
    const auto y = (*b)->View(*twin).bytes;
    EXPECT_TRUE(std::equal(x.begin(), x.end(), y.begin(), y.end())) << info.name;
  }
}

TEST_F(Quantize, ImportanceLowersWhatItWeighsAndUnreachedExpertsAreNamed) {
  const auto source = formats::OpenSource(demo_);
  ASSERT_TRUE(source.ok());
  const quant::Imatrix imatrix = SomeImportance(**source);
  ASSERT_TRUE(quant::WriteImatrix(imatrix, File("i.gguf")).ok());
  const auto back = quant::ReadImatrix(File("i.gguf"));
  ASSERT_TRUE(back.ok()) << back.error().ToString();
  EXPECT_EQ(back->entries.size(), imatrix.entries.size());
  QuantizeOptions options = Type("q4_k_s");
  options.imatrix = &*back;
  const QuantizeReport with = Must(demo_, File("with.gguf"), options);
  const QuantizeReport without = Must(demo_, File("without.gguf"), Type("q4_k_s"));
  for (size_t i = 0; i < with.matrices.size(); ++i) {
    const auto& matrix = with.matrices[i];
    if (matrix.to == DType::kF32 || !matrix.weighted) continue;
    EXPECT_LT(*matrix.weighted, 0.97 * without.matrices[i].error) << matrix.name;
    const bool stack = matrix.group == Group::kExperts ||
                       (matrix.group == Group::kMtp &&
                        matrix.name.find("exps") != std::string::npos);
    EXPECT_EQ(matrix.unreached.size(), stack ? 1u : 0u) << matrix.name;
  }
}

TEST_F(Quantize, AnImatrixOfAnotherModelOrADamagedOneIsRefused) {
  const auto source = formats::OpenSource(demo_);
  ASSERT_TRUE(source.ok());
  quant::Imatrix imatrix = SomeImportance(**source);
  imatrix.entries["output.weight"].sums.resize(17);
  QuantizeOptions options = Type("q4_0");
  options.imatrix = &imatrix;
  ExpectError(Try(demo_, File("a.gguf"), options), Code::kBadInput, {"output.weight", "columns"});
  quant::Imatrix strange;
  strange.entries["blk.99.ffn_up.weight"] = {{1.0f}, {1.0}};
  options.imatrix = &strange;
  ExpectError(Try(demo_, File("a.gguf"), options), Code::kBadInput, {"blk.99.ffn_up.weight"});
  EXPECT_EQ(Files(), 0u);
}

// llama.cpp's older form, as its loader reads it.
std::string LegacyImatrix(int32_t values, int32_t calls, float value) {
  std::string out;
  const auto number = [&](int32_t n) { out.append(reinterpret_cast<const char*>(&n), sizeof(n)); };
  const std::string name = "blk.0.ssm_in.weight";
  number(1);
  number(static_cast<int32_t>(name.size()));
  out += name;
  number(calls);
  number(values);
  for (int32_t i = 0; i < values; ++i) out.append(reinterpret_cast<const char*>(&value), 4);
  number(calls);
  number(4);
  out += "text";
  return out;
}

TEST_F(Quantize, TheOlderImatrixIsReadAndEveryTruncationRefused) {
  const std::string bytes = LegacyImatrix(256, 5, 2.5f);
  const auto parse = [](const std::string& text) {
    return quant::ParseImatrix(std::as_bytes(std::span(text.data(), text.size())), "i.dat");
  };
  const auto whole = parse(bytes);
  ASSERT_TRUE(whole.ok()) << whole.error().ToString();
  EXPECT_EQ(whole->datasets, std::vector<std::string>{"text"});
  EXPECT_EQ(whole->chunks, 5u);
  const auto& entry = whole->entries.at("blk.0.ssm_in.weight");
  EXPECT_EQ(entry.sums.size(), 256u);
  EXPECT_EQ(entry.counts, std::vector<double>{5.0});
  const size_t needed = bytes.size() - 12;  // the tail may be missing
  for (size_t size = 0; size < needed; ++size) {
    EXPECT_FALSE(parse(bytes.substr(0, size)).ok()) << size;
  }
  EXPECT_TRUE(parse(bytes.substr(0, needed)).ok());
  EXPECT_FALSE(parse(LegacyImatrix(4, 1, -1.0f)).ok());
  EXPECT_FALSE(parse(LegacyImatrix(4, 1, NAN)).ok());
  EXPECT_FALSE(parse(LegacyImatrix(-4, 1, 1.0f)).ok());
}

TEST_F(Quantize, AnInputThatChangesOrHoldsNanLeavesNothingBehind) {
  const std::string in = File("in.gguf");
  Must(demo_, in, Type("bf16"));
  QuantizeOptions options = Type("q4_0");
  options.progress = [&](const quant::ConvertProgress& progress) {
    if (progress.tensors == 3) {
      fs::last_write_time(in, fs::last_write_time(in) + std::chrono::seconds(7));
    }
    return true;
  };
  ExpectError(Try(in, File("out.gguf"), options), Code::kBadInput, {"in.gguf", "changed"});
  EXPECT_EQ(Files(), 1u);
  options = Type("q4_0");
  options.progress = [](const quant::ConvertProgress& progress) { return progress.tensors < 3; };
  ExpectError(Try(in, File("out.gguf"), options), Code::kCancelled, {"interrupted"});
  EXPECT_EQ(Files(), 1u);

  const auto source = formats::GgufFile::Open(in);
  ASSERT_TRUE(source.ok());
  const auto* info = (*source)->Find("blk.0.ssm_in.weight");
  ASSERT_NE(info, nullptr);
  std::fstream file(in, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(static_cast<std::streamoff>(info->file_offset + 1000));
  file.write("\xC0\x7F", 2);  // a NaN in BF16
  file.close();
  ExpectError(Try(in, File("out.gguf"), Type("q4_0")), Code::kBadInput,
              {"blk.0.ssm_in.weight", "NaN"});
  EXPECT_EQ(Files(), 1u);
  ExpectError(Try(demo_, in, Type("q4_0")), Code::kBadInput, {"there already"});
}

}  // namespace
}  // namespace lode
