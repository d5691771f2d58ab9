// The tokenizer against what PyPI's `tokenizers` (fixtures, made by
// tools/fixtures/make_tokenizer_fixtures.py) and llama.cpp (../shared/tokenizers) give.
#include "text/tokenizer/tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <thread>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "base/utf8.h"
#include "tests/support/shared.h"

namespace lode::text {
namespace {

using Ids = std::vector<int32_t>;

std::unique_ptr<Tokenizer> Load(const Json& json, std::string_view config = "") {
  Result<std::unique_ptr<Tokenizer>> loaded = Tokenizer::FromHuggingFace(DumpJson(json), config);
  if (!loaded.ok()) {
    ADD_FAILURE() << loaded.error().ToString();
    return nullptr;
  }
  return std::move(loaded).value();
}

Json ReadFixture(const std::string& name) {
  Result<Json> json = ReadJsonFile(testing::TestFile("text/tokenizer/" + name));
  if (!json.ok()) {
    ADD_FAILURE() << json.error().ToString();
    return Json();
  }
  return std::move(json).value();
}

Ids EncodeOrFail(const Tokenizer& tokenizer, std::string_view text, EncodeOptions options = {}) {
  Result<Ids> ids = tokenizer.Encode(text, options);
  if (!ids.ok()) {
    ADD_FAILURE() << ids.error().ToString();
    return {};
  }
  return std::move(ids).value();
}

std::string DecodeOrFail(const Tokenizer& tokenizer, const Ids& ids, bool skip_special = false) {
  Result<std::string> text = tokenizer.Decode(ids, skip_special);
  if (!text.ok()) {
    ADD_FAILURE() << text.error().ToString();
    return "";
  }
  return std::move(text).value();
}

std::string StreamAll(const Tokenizer& tokenizer, const Ids& ids, bool skip_special) {
  StreamDecoder decoder(tokenizer, skip_special);
  std::string text;
  for (const int32_t id : ids) {
    const std::string part = decoder.Push(id);
    EXPECT_TRUE(IsValidUtf8(part)) << "half a character came out of id " << id;
    text += part;
  }
  return text + decoder.Flush();
}

// The error sentence of a load that must fail.
std::string FailureOf(const Json& json, std::string_view config = "") {
  const Result<std::unique_ptr<Tokenizer>> loaded =
      Tokenizer::FromHuggingFace(DumpJson(json), config);
  return loaded.ok() ? "it loaded" : loaded.error().ToString();
}

// A vocabulary of bytes a..c and their merge, without anything around.
Json TinyJson() {
  return Json::parse(R"({"version": "1.0", "added_tokens": [], "normalizer": null,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
    "post_processor": null, "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3}, "merges": ["a b"]}})");
}

// A GGUF vocabulary whose first 256 ids are the bytes, in the order of their letters' code points.
GgufVocab ByteVocab(const std::string& pre) {
  const Json fixture = ReadFixture("pattern_llama3.json");
  std::vector<std::pair<int64_t, std::string>> sorted;
  for (const auto& [token, id] : fixture["tokenizer"]["model"]["vocab"].items()) {
    sorted.emplace_back(id.get<int64_t>(), token);
  }
  std::sort(sorted.begin(), sorted.end());
  GgufVocab vocab;
  vocab.model = "gpt2";
  vocab.pre = pre;
  for (const auto& [id, token] : sorted) {
    vocab.tokens.push_back(token);
    vocab.token_types.push_back(1);
  }
  for (const Json& merge : fixture["tokenizer"]["model"]["merges"]) {
    vocab.merges.push_back(merge[0].get<std::string>() + " " + merge[1].get<std::string>());
  }
  for (const Json& added : fixture["tokenizer"]["added_tokens"]) {
    vocab.token_types[added["id"].get<size_t>()] = added["special"].get<bool>() ? 3 : 4;
  }
  return vocab;
}

// Conformance --------------------------------------------------------------------------------------

TEST(Tokenizer, GivesTheReferencesIdsAndTextsForEveryFixture) {
  const Json strings = ReadFixture("strings.list");
  int fixtures = 0;
  int cases = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(testing::TestFile("text/tokenizer"))) {
    if (entry.path().extension() != ".json") continue;
    SCOPED_TRACE(entry.path().filename().string());
    const Json fixture = ReadFixture(entry.path().filename().string());
    const std::unique_ptr<Tokenizer> tokenizer = Load(fixture["tokenizer"]);
    ASSERT_NE(tokenizer, nullptr);
    const Json& texts = fixture.contains("texts") ? fixture["texts"]
                                                  : strings[fixture["strings"].get<std::string>()];
    ASSERT_EQ(texts.size(), fixture["cases"].size());
    for (size_t i = 0; i < texts.size(); ++i) {
      const std::string text = texts[i].get<std::string>();
      SCOPED_TRACE(DumpJson(texts[i]));
      const Json& expected = fixture["cases"][i];
      const auto has = [&](size_t k) { return expected.size() > k && !expected[k].is_null(); };
      const Ids ids = expected[0].get<Ids>();
      EXPECT_EQ(EncodeOrFail(*tokenizer, text), ids);
      EXPECT_EQ(EncodeOrFail(*tokenizer, text, {.recognise_special = false}),
                has(1) ? expected[1].get<Ids>() : ids);
      const Ids full = has(2) ? expected[2].get<Ids>() : ids;
      EXPECT_EQ(EncodeOrFail(*tokenizer, text, {.add_special = true}), full);
      const std::string decoded = has(3) ? expected[3].get<std::string>() : text;
      EXPECT_EQ(DecodeOrFail(*tokenizer, ids), decoded);
      EXPECT_EQ(StreamAll(*tokenizer, ids, false), decoded);
      const std::string skipped = has(4) ? expected[4].get<std::string>() : text;
      EXPECT_EQ(DecodeOrFail(*tokenizer, full, true), skipped);
      EXPECT_EQ(StreamAll(*tokenizer, full, true), skipped);
      ++cases;
    }
    ++fixtures;
  }
  EXPECT_GE(fixtures, 43);
  EXPECT_GE(cases, 3800);
}

TEST(Tokenizer, ReadsAGgufVocabularyAsTheSameTokenizer) {
  const Json strings = ReadFixture("strings.list");
  const Json fixture = ReadFixture("pattern_llama3.json");
  GgufVocab vocab = ByteVocab("llama-bpe");
  vocab.bos = 1;
  vocab.eos = 4;
  vocab.eot = 2;
  const Result<std::unique_ptr<Tokenizer>> loaded = Tokenizer::FromGguf(vocab);
  ASSERT_TRUE(loaded.ok()) << loaded.error().ToString();
  const Tokenizer& tokenizer = **loaded;
  for (size_t i = 0; i < strings["all"].size(); ++i) {
    SCOPED_TRACE(DumpJson(strings["all"][i]));
    const std::string text = strings["all"][i].get<std::string>();
    const Ids ids = fixture["cases"][i][0].get<Ids>();
    EXPECT_EQ(EncodeOrFail(tokenizer, text), ids);
    Ids with_bos = ids;
    with_bos.insert(with_bos.begin(), 1);  // this family adds its BOS unless the file says not to
    EXPECT_EQ(EncodeOrFail(tokenizer, text, {.add_special = true}), with_bos);
    EXPECT_EQ(StreamAll(tokenizer, ids, false), DecodeOrFail(tokenizer, ids));
  }
  EXPECT_EQ(tokenizer.bos_id(), 1);
  EXPECT_EQ(tokenizer.eos_id(), 4);
  EXPECT_EQ(tokenizer.stop_ids(), (Ids{2, 4}));
  EXPECT_TRUE(tokenizer.IsSpecial(3));
  EXPECT_FALSE(tokenizer.IsSpecial(5));  // user-defined: recognised always, but text
  EXPECT_EQ(EncodeOrFail(tokenizer, "<think>", {.recognise_special = false}), Ids{5});
  EXPECT_GT(EncodeOrFail(tokenizer, "<|im_end|>", {.recognise_special = false}).size(), 1u);
}

TEST(Tokenizer, EmbeddedHuggingFaceFileWinsOverTheGgufLists) {
  GgufVocab vocab;
  vocab.model = "gpt2";
  vocab.huggingface_json = DumpJson(TinyJson());
  vocab.eos = 2;
  const Result<std::unique_ptr<Tokenizer>> loaded = Tokenizer::FromGguf(vocab);
  ASSERT_TRUE(loaded.ok()) << loaded.error().ToString();
  EXPECT_EQ(EncodeOrFail(**loaded, "abc"), (Ids{3, 2}));
  EXPECT_EQ((*loaded)->stop_ids(), Ids{2});
  vocab.eos = 4;
  EXPECT_EQ(Tokenizer::FromGguf(vocab).error().ToString(),
            "tokenizer.ggml.eos_token_id is 4, but there are 4 tokens");
}

TEST(Tokenizer, CutsNemotronsVocabularyByTekkensPatternThoughTheFileSaysPixtral) {
  GgufVocab vocab = ByteVocab("pixtral");
  while (vocab.tokens.size() < 131072) {
    vocab.tokens.push_back(Format("<filler_%zu>", vocab.tokens.size()));
    vocab.token_types.push_back(1);
  }
  vocab.tokens[131071] = "aB";  // one piece for Llama 3, two for tekken
  const auto ids_of = [&] {
    const Result<std::unique_ptr<Tokenizer>> loaded = Tokenizer::FromGguf(vocab);
    EXPECT_TRUE(loaded.ok()) << loaded.error().ToString();
    return EncodeOrFail(**loaded, "aB");
  };
  EXPECT_EQ(ids_of(), Ids{131071});
  const auto move_to = [&](size_t place, const char* token) {
    std::replace(vocab.tokens.begin(), vocab.tokens.end(), std::string(token), vocab.tokens[place]);
    vocab.tokens[place] = token;
  };
  vocab.merges.clear();  // what stands at 10 and 14 is moved, so the merges would not fit
  move_to(10, "<|im_start|>");
  move_to(14, "<tool_call>");
  EXPECT_EQ(ids_of().size(), 2u);
}

// A minimal reader of GGUF metadata: enough for vocabulary files, on trusted input.
class GgufMetadata {
 public:
  explicit GgufMetadata(std::string bytes) : bytes_(std::move(bytes)) {
    at_ = 16;  // magic, version, tensor count
    const auto count = Read<uint64_t>();
    for (uint64_t i = 0; i < count; ++i) {
      const std::string key = ReadText();
      ReadValue(key, Read<uint32_t>());
    }
  }
  std::map<std::string, std::vector<std::string>> texts;
  std::map<std::string, std::vector<int32_t>> numbers;

 private:
  template <typename T>
  T Read() {
    T value;
    std::memcpy(&value, bytes_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return value;
  }
  std::string ReadText() {
    const auto size = Read<uint64_t>();
    at_ += size;
    return bytes_.substr(at_ - size, size);
  }
  void ReadValue(const std::string& key, uint32_t type) {
    constexpr uint32_t kString = 8;
    constexpr uint32_t kArray = 9;
    if (type == kString) {
      texts[key].push_back(ReadText());
    } else if (type == kArray) {
      const auto element = Read<uint32_t>();
      const auto count = Read<uint64_t>();
      for (uint64_t i = 0; i < count; ++i) ReadValue(key, element);
    } else if (type == 4 || type == 5 || type == 6) {
      numbers[key].push_back(Read<int32_t>());
    } else if (type == 0 || type == 1 || type == 7) {
      numbers[key].push_back(Read<int8_t>());
    } else if (type == 2 || type == 3) {
      numbers[key].push_back(Read<int16_t>());
    } else {
      numbers[key].push_back(static_cast<int32_t>(Read<int64_t>()));
    }
  }
  std::string bytes_;
  size_t at_ = 0;
};

TEST(Tokenizer, GivesTheExpectedIdsOfRealVocabularies) {
  LODE_NEEDS_SHARED(folder, "tokenizers");
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".gguf") continue;
    SCOPED_TRACE(entry.path().string());
    GgufMetadata metadata(ReadFile(entry.path()).value());
    GgufVocab vocab;
    vocab.model = metadata.texts["tokenizer.ggml.model"].at(0);
    vocab.pre = metadata.texts["tokenizer.ggml.pre"].at(0);
    vocab.tokens = metadata.texts["tokenizer.ggml.tokens"];
    vocab.token_types = metadata.numbers["tokenizer.ggml.token_type"];
    vocab.merges = metadata.texts["tokenizer.ggml.merges"];
    const Result<std::unique_ptr<Tokenizer>> loaded = Tokenizer::FromGguf(vocab);
    ASSERT_TRUE(loaded.ok()) << loaded.error().ToString();
    const std::string inputs = ReadFile(entry.path().string() + ".inp").value();
    const std::vector<std::string> expected =
        Split(ReadFile(entry.path().string() + ".out").value(), '\n');
    constexpr std::string_view kBetween = "\n__ggml_vocab_test__\n";
    size_t index = 0;
    for (size_t at = 0; at < inputs.size(); ++index) {
      const size_t end = inputs.find(kBetween, at);
      if (end == std::string::npos) break;  // behind the last mark there is only the file's end
      const std::string text = inputs.substr(at, end - at);
      at = end + kBetween.size();
      SCOPED_TRACE("case " + std::to_string(index) + ": " + Quote(text));
      ASSERT_LT(index, expected.size());
      const Ids ids = EncodeOrFail(**loaded, text);
      std::string line;
      for (const int32_t id : ids) line += " " + std::to_string(id);
      EXPECT_EQ(line, expected[index]);
      EXPECT_EQ(DecodeOrFail(**loaded, ids), text);
    }
    EXPECT_EQ(index + 1, expected.size());  // the last line ends with a line end
    EXPECT_GE(index, 40u);
    ++files;
  }
  EXPECT_GE(files, 1);
}

// Properties ---------------------------------------------------------------------------------------

TEST(Tokenizer, StreamsWholeCharactersOnly) {
  const std::unique_ptr<Tokenizer> tokenizer =
      Load(ReadFixture("pattern_gpt2.json")["tokenizer"]);
  ASSERT_NE(tokenizer, nullptr);
  const Ids llama = EncodeOrFail(*tokenizer, "\U0001F999");
  ASSERT_GE(llama.size(), 2u);
  StreamDecoder decoder(*tokenizer);
  for (size_t i = 0; i + 1 < llama.size(); ++i) EXPECT_EQ(decoder.Push(llama[i]), "");
  EXPECT_EQ(decoder.Push(llama.back()), "\U0001F999");
  EXPECT_EQ(decoder.Push(llama[0]), "");
  EXPECT_EQ(decoder.Push(EncodeOrFail(*tokenizer, "a")[0]), "\uFFFDa");
  EXPECT_EQ(decoder.Push(llama[0]), "");
  EXPECT_EQ(decoder.Flush(), "\uFFFD");
  EXPECT_EQ(decoder.Flush(), "");
  EXPECT_EQ(decoder.Push(1000000), "");
  EXPECT_EQ(decoder.Push(-1), "");
}

TEST(Tokenizer, StreamsAnySequenceOfIdsAsDecodeDoes) {
  for (const char* name : {"pattern_gpt2", "byte_fallback", "metaspace_first", "affixes", "roberta",
                           "unk"}) {
    SCOPED_TRACE(name);
    const std::unique_ptr<Tokenizer> tokenizer =
        Load(ReadFixture(std::string(name) + ".json")["tokenizer"]);
    ASSERT_NE(tokenizer, nullptr);
    uint32_t random = 1;
    for (int round = 0; round < 500; ++round) {
      Ids ids;
      for (int i = 0; i < 12; ++i) {
        random = random * 1664525 + 1013904223;
        ids.push_back(static_cast<int32_t>((random >> 8) % tokenizer->vocab_size()));
      }
      const std::string whole = DecodeOrFail(*tokenizer, ids);
      EXPECT_TRUE(IsValidUtf8(whole));
      EXPECT_EQ(StreamAll(*tokenizer, ids, false), whole);
    }
  }
}

TEST(Tokenizer, RepairsInvalidUtf8BeforeEncoding) {
  const std::unique_ptr<Tokenizer> tokenizer =
      Load(ReadFixture("pattern_llama3.json")["tokenizer"]);
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(EncodeOrFail(*tokenizer, "a\xFF\xE2\x82z"),
            EncodeOrFail(*tokenizer, "a\uFFFD\uFFFDz"));
}

TEST(Tokenizer, EncodesAHundredThousandEqualLettersAsItEncodesThePairs) {
  const std::unique_ptr<Tokenizer> tokenizer = Load(TinyJson());
  ASSERT_NE(tokenizer, nullptr);
  std::string text;
  for (int i = 0; i < 100000; ++i) text += "ab";
  EXPECT_EQ(EncodeOrFail(*tokenizer, text), Ids(100000, 3));
  EXPECT_EQ(EncodeOrFail(*tokenizer, std::string(100000, 'a')), Ids(100000, 0));
}

TEST(Tokenizer, EncodesTheSameFromManyThreads) {
  const std::unique_ptr<Tokenizer> tokenizer =
      Load(ReadFixture("pattern_tekken.json")["tokenizer"]);
  ASSERT_NE(tokenizer, nullptr);
  const Json strings = ReadFixture("strings.list");
  std::string text;
  for (const Json& part : strings["all"]) text += part.get<std::string>() + " ";
  const Ids expected = EncodeOrFail(*tokenizer, text);
  std::vector<std::thread> threads;
  std::vector<int> wrong(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int round = 0; round < 20; ++round) {
        const Result<Ids> ids = tokenizer->Encode(text);
        if (!ids.ok() || *ids != expected) ++wrong[t];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
}

TEST(Tokenizer, TellsTheBytesAndTextOfTokens) {
  const std::unique_ptr<Tokenizer> tokenizer =
      Load(ReadFixture("pattern_llama3.json")["tokenizer"]);
  ASSERT_NE(tokenizer, nullptr);
  const std::optional<int32_t> space = tokenizer->TokenToId("\u0120");
  ASSERT_TRUE(space.has_value());
  EXPECT_EQ(tokenizer->TokenBytes(*space), " ");
  EXPECT_EQ(tokenizer->TokenText(*space), "\u0120");
  EXPECT_EQ(tokenizer->TokenToId("<|im_end|>"), 4);
  EXPECT_EQ(tokenizer->TokenToId("no such token"), std::nullopt);
  EXPECT_EQ(tokenizer->TokenBytes(-1), "");
  EXPECT_EQ(tokenizer->TokenBytes(tokenizer->vocab_size()), "");
  EXPECT_FALSE(tokenizer->Has(tokenizer->vocab_size()));
}

TEST(Tokenizer, DoesNotTurnPlainTextIntoASpecialTokenThatIsAWholePiece) {
  Json json = TinyJson();
  json["model"]["ignore_merges"] = true;
  json["added_tokens"] = Json::parse(R"([{"id": 3, "content": "ab", "special": true}])");
  const std::unique_ptr<Tokenizer> tokenizer = Load(json);
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(EncodeOrFail(*tokenizer, "c ab"), (Ids{2, 3}));
  json["model"]["merges"] = Json::array();
  const std::unique_ptr<Tokenizer> unmerged = Load(json);
  EXPECT_EQ(EncodeOrFail(*unmerged, "ab"), Ids{3});
  EXPECT_EQ(EncodeOrFail(*unmerged, "ab", {.recognise_special = false}), (Ids{0, 1}));
  EXPECT_EQ(EncodeOrFail(*unmerged, "ab"), Ids{3});  // the cache keeps the two apart
}

// Configuration ------------------------------------------------------------------------------------

TEST(Tokenizer, TakesIdsAndMissingTokensFromTheConfig) {
  const std::unique_ptr<Tokenizer> tokenizer = Load(TinyJson(), R"({
    "bos_token": "a", "eos_token": {"content": "<|im_end|>"}, "pad_token": null, "unk_token": "nope",
    "add_bos_token": true, "add_eos_token": true,
    "added_tokens_decoder": {"4": {"content": "<|im_end|>", "special": true},
                             "5": {"content": "</s>", "special": true}}})");
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(tokenizer->bos_id(), 0);
  EXPECT_EQ(tokenizer->eos_id(), 4);
  EXPECT_EQ(tokenizer->pad_id(), std::nullopt);
  EXPECT_EQ(tokenizer->unk_id(), std::nullopt);
  ASSERT_EQ(tokenizer->warnings().size(), 1u);
  EXPECT_EQ(tokenizer->warnings()[0],
            "tokenizer_config.json names the unk_token 'nope', which is no token");
  EXPECT_EQ(tokenizer->stop_ids(), (Ids{4, 5}));
  EXPECT_EQ(EncodeOrFail(*tokenizer, "c<|im_end|>", {.add_special = true}), (Ids{0, 2, 4, 4}));
  EXPECT_EQ(EncodeOrFail(*tokenizer, "c"), Ids{2});
  EXPECT_EQ(tokenizer->vocab_size(), 6);
}

TEST(Tokenizer, WarnsWhenAGgufDoesNotNameItsPreTokenizer) {
  const Result<std::unique_ptr<Tokenizer>> loaded = Tokenizer::FromGguf(ByteVocab(""));
  ASSERT_TRUE(loaded.ok()) << loaded.error().ToString();
  ASSERT_EQ((*loaded)->warnings().size(), 1u);
}

// Errors -------------------------------------------------------------------------------------------

TEST(Tokenizer, RefusesIdsThatNameNoToken) {
  const std::unique_ptr<Tokenizer> tokenizer = Load(TinyJson());
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(tokenizer->Decode(Ids{0, 4}).error().ToString(),
            "token id 4 (number 2 of the list) is not in the vocabulary, whose ids are 0 to 3");
  EXPECT_FALSE(tokenizer->Decode(Ids{-1}).ok());
}

TEST(Tokenizer, RefusesBrokenFilesWithOneSentence) {
  const auto broken = [](const char* pointer, const char* value) {
    Json json = TinyJson();
    json[Json::json_pointer(pointer)] = Json::parse(value);
    return FailureOf(json);
  };
  EXPECT_EQ(broken("/model/merges", R"(["a b", "b x"])"),
            "merge 1 joins 'b' and 'x', but 'x' is no token");
  EXPECT_EQ(broken("/model/merges", R"(["b c"])"), "merge 0 joins 'b' and 'c', but 'bc' is no token");
  EXPECT_EQ(broken("/model/merges", R"(["abc"])"),
            "model.merges: merge 0, 'abc', is not two tokens with one space between them");
  EXPECT_EQ(broken("/model/merges", R"([["a"]])"), "model.merges: merge 0 is no pair of tokens");
  EXPECT_EQ(broken("/model/merges", R"([["a", "b", "c"]])"),
            "model.merges: merge 0 is no pair of tokens");
  EXPECT_EQ(broken("/model/vocab", R"({"a": 0, "b": 0})"),
            "model.vocab: tokens 'a' and 'b' have the same id 0");
  EXPECT_EQ(broken("/model/vocab", R"({"a": 0, "b": -1})"),
            "model.vocab: token 'b' has the id -1, which is out of range for 2 tokens");
  EXPECT_EQ(broken("/model/vocab", R"({"a": 2000000000})"),
            "model.vocab: token 'a' has the id 2000000000, which is out of range for 1 tokens");
  EXPECT_EQ(broken("/model/type", R"("Unigram")"),
            "the tokenizer model 'Unigram' is not supported; Lode does BPE");
  EXPECT_EQ(broken("/model/dropout", "0.1"),
            "model.dropout is set, which makes encoding random; Lode needs it null");
  EXPECT_EQ(broken("/model", "{}"), "\"model\" has no \"vocab\"");
  EXPECT_EQ(broken("/model/vocab", "{}"), "merge 0 joins 'a' and 'b', but 'a' is no token");
  EXPECT_TRUE(StartsWith(broken("/normalizer", R"({"type": "Precompiled"})"),
                         "the normalizer 'Precompiled' is not supported"));
  EXPECT_TRUE(StartsWith(broken("/pre_tokenizer", R"({"type": "UnicodeScripts"})"),
                         "the pre-tokenizer 'UnicodeScripts' is not supported"));
  EXPECT_TRUE(StartsWith(broken("/post_processor", R"({"type": "X"})"),
                         "the post-processor 'X' is not supported"));
  EXPECT_TRUE(StartsWith(broken("/decoder", R"({"type": "WordPiece"})"),
                         "the decoder 'WordPiece' is not supported"));
  EXPECT_EQ(broken("/added_tokens", R"([{"id": 1, "content": "<x>"}])"),
            "the added token '<x>' has the id 1, which belongs to the token 'b'");
  EXPECT_EQ(broken("/added_tokens", R"([{"id": 2000000000, "content": "<x>"}])"),
            "the added token '<x>' has the id 2000000000, which is out of range");
  EXPECT_EQ(broken("/added_tokens", R"([{"id": 7, "content": "<x>"}, {"id": 7, "content": "<y>"}])"),
            "two added tokens have the id 7, one of them is '<y>'");
  EXPECT_EQ(broken("/post_processor",
                   R"({"type": "BertProcessing", "sep": ["x", 9], "cls": ["a", 0]})"),
            "the post-processor adds the token id 9, which is not in the vocabulary");
  EXPECT_EQ(Tokenizer::FromHuggingFace("").error().ToString(), "tokenizer.json is no JSON object");
  EXPECT_EQ(Tokenizer::FromHuggingFace("{\"model\"").error().ToString(),
            "not valid JSON at byte 8: expected ':'");
  EXPECT_EQ(Tokenizer::FromHuggingFace("{}").error().ToString(), "tokenizer.json has no \"model\"");
}

TEST(Tokenizer, RefusesTextOnlyWhenTheUnknownTokenIsMissingToo) {
  Json json = TinyJson();
  json["model"]["unk_token"] = "<unk>";
  const std::unique_ptr<Tokenizer> tokenizer = Load(json);
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(EncodeOrFail(*tokenizer, "abc"), (Ids{3, 2}));
  EXPECT_EQ(tokenizer->Encode("abz").error().ToString(),
            "the character 'z' is unknown to the tokenizer, and its unk_token '<unk>' is no token");
}

TEST(Tokenizer, RefusesGgufVocabulariesByName) {
  GgufVocab vocab = ByteVocab("gpt-2");
  vocab.model = "llama";
  EXPECT_TRUE(StartsWith(Tokenizer::FromGguf(vocab).error().ToString(),
                         "the tokenizer model 'llama' (SentencePiece) (tokenizer.ggml.model) is not "
                         "supported"));
  vocab = ByteVocab("no-such-cut");
  const std::string unknown = Tokenizer::FromGguf(vocab).error().ToString();
  EXPECT_NE(unknown.find("'no-such-cut'"), std::string::npos);
  EXPECT_NE(unknown.find("llama-bpe"), std::string::npos);
  vocab = ByteVocab("gpt-2");
  vocab.token_types.pop_back();
  EXPECT_FALSE(Tokenizer::FromGguf(vocab).ok());
  vocab = ByteVocab("gpt-2");
  vocab.merges.push_back("nospace");
  EXPECT_FALSE(Tokenizer::FromGguf(vocab).ok());
  vocab = ByteVocab("gpt-2");
  vocab.bos = 100000;
  EXPECT_FALSE(Tokenizer::FromGguf(vocab).ok());
  vocab = ByteVocab("gpt-2");
  vocab.tokens.back() = vocab.tokens.front();
  EXPECT_FALSE(Tokenizer::FromGguf(vocab).ok());
  vocab = GgufVocab();
  vocab.model = "gpt2";
  vocab.pre = "gpt-2";
  EXPECT_EQ(Tokenizer::FromGguf(vocab).error().ToString(), "the vocabulary is empty");
}

TEST(Tokenizer, LoadsAPreTokenizerForEveryNameItClaimsToKnow) {
  for (const char* name : {"gpt-2", "llama-bpe", "pixtral", "qwen2", "qwen35", "tekken", "gpt-4o",
                           "starcoder", "deepseek-v3", "smollm", "llama4"}) {
    const Result<std::unique_ptr<Tokenizer>> loaded = Tokenizer::FromGguf(ByteVocab(name));
    ASSERT_TRUE(loaded.ok()) << name << ": " << loaded.error().ToString();
    const std::string text = "Hello, W\u00F6rld 12345!\n\n\u4E2D\u6587 don't";
    EXPECT_EQ(DecodeOrFail(**loaded, EncodeOrFail(**loaded, text)), text) << name;
  }
}

}  // namespace
}  // namespace lode::text
