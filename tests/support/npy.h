// The little of NumPy's .npy format that the tests' references use: float32, little-endian, C order.
#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

namespace lode::testing {

struct Npy {
  std::vector<int64_t> shape;
  std::vector<float> values;
};

inline Npy ReadNpy(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  Npy npy;
  if (bytes.size() < 10 || bytes.compare(0, 6, "\x93NUMPY") != 0) return npy;
  uint16_t header_bytes;
  std::memcpy(&header_bytes, bytes.data() + 8, 2);
  const std::string header = bytes.substr(10, header_bytes);
  if (header.find("'<f4'") == std::string::npos) return npy;
  const size_t open = header.find('(');
  std::istringstream dims(header.substr(open + 1, header.find(')') - open - 1));
  int64_t count = 1;
  for (std::string part; std::getline(dims, part, ',');) {
    if (part.find_first_of("0123456789") == std::string::npos) continue;
    npy.shape.push_back(std::stoll(part));
    count *= npy.shape.back();
  }
  npy.values.resize(static_cast<size_t>(count));
  std::memcpy(npy.values.data(), bytes.data() + 10 + header_bytes,
              std::min(npy.values.size() * sizeof(float), bytes.size() - 10 - header_bytes));
  return npy;
}

// "1,2,3" from a file.
inline std::vector<int32_t> ReadTokens(const std::string& path) {
  std::ifstream file(path);
  std::vector<int32_t> tokens;
  for (std::string part; std::getline(file, part, ',');) tokens.push_back(std::stoi(part));
  return tokens;
}

}  // namespace lode::testing
