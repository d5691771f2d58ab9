// Hostile and well-formed files, built in memory for the tests of this folder, and folders that
// vanish with the test.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <unistd.h>
#include <vector>

namespace lode::formats::testing {

inline std::span<const std::byte> Bytes(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// Little-endian pieces of a file, one after the other.
class Pieces {
 public:
  template <typename T>
  Pieces& Add(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));
    return *this;
  }
  Pieces& Raw(std::string_view text) {
    bytes_.append(text);
    return *this;
  }
  // Length and bytes, as GGUF stores strings.
  Pieces& String(std::string_view text) { return Add(static_cast<uint64_t>(text.size())).Raw(text); }
  Pieces& Zeros(size_t count) {
    bytes_.append(count, '\0');
    return *this;
  }
  Pieces& PadTo(size_t alignment) { return Zeros((alignment - bytes_.size() % alignment) % alignment); }

  const std::string& str() const { return bytes_; }

 private:
  std::string bytes_;
};

// "GGUF", version 3 and the two counts.
inline Pieces GgufStart(uint64_t tensors, uint64_t entries, uint32_t version = 3) {
  return Pieces().Raw("GGUF").Add(version).Add(tensors).Add(entries);
}

inline std::string SafetensorsBytes(std::string_view header, std::string_view data) {
  return Pieces().String(header).Raw(data).str();
}

// A folder of its own, removed at the end of the test.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string path = (std::filesystem::temp_directory_path() / "lode-test-XXXXXX").string();
    path_ = ::mkdtemp(path.data()) != nullptr ? path : "";
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string File(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace lode::formats::testing
