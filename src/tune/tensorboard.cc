#include "tune/tensorboard.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "base/file.h"
#include "tune/write_all.h"

namespace lode::tune {
namespace {

constexpr std::array<uint32_t, 256> kCrcTable = [] {
  std::array<uint32_t, 256> table = {};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78u : 0u);
    table[byte] = crc;
  }
  return table;
}();

template <typename T>
void AppendLittleEndian(T value, std::string* out) {
  for (size_t i = 0; i < sizeof(T); ++i) *out += static_cast<char>(value >> (8 * i));
}

// Protobuf's wire format.
enum Wire : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

void AppendVarint(uint64_t value, std::string* out) {
  for (; value >= 0x80; value >>= 7) *out += static_cast<char>(value | 0x80);
  *out += static_cast<char>(value);
}
void AppendKey(uint32_t field, Wire wire, std::string* out) {
  AppendVarint(field << 3 | wire, out);
}
void AppendBytes(uint32_t field, std::string_view bytes, std::string* out) {
  AppendKey(field, kBytes, out);
  AppendVarint(bytes.size(), out);
  *out += bytes;
}

// message Event { double wall_time = 1; int64 step = 2; oneof { string file_version = 3;
//   Summary summary = 5; SessionLog session_log = 7; } }
std::string EventAt(int64_t step) {
  const std::chrono::duration<double> now = std::chrono::system_clock::now().time_since_epoch();
  std::string event;
  AppendKey(1, kFixed64, &event);
  AppendLittleEndian(std::bit_cast<uint64_t>(now.count()), &event);
  AppendKey(2, kVarint, &event);
  AppendVarint(static_cast<uint64_t>(step), &event);
  return event;
}

}  // namespace

uint32_t Crc32c(std::string_view bytes) {
  uint32_t crc = ~0u;
  for (const char c : bytes) {
    crc = (crc >> 8) ^ kCrcTable[(crc ^ static_cast<unsigned char>(c)) & 0xFF];
  }
  return ~crc;
}

std::string FrameRecord(std::string_view message) {
  // Masked, for the check of a text that holds a check would be weak.
  const auto masked = [](std::string_view bytes) {
    return std::rotr(Crc32c(bytes), 15) + 0xA282EAD8u;
  };
  std::string record;
  AppendLittleEndian(static_cast<uint64_t>(message.size()), &record);
  AppendLittleEndian(masked(record), &record);
  record += message;
  AppendLittleEndian(masked(message), &record);
  return record;
}

Result<std::unique_ptr<EventFile>> EventFile::Open(const std::string& folder, int64_t step) {
  LODE_TRY(MakeFolders(folder));
  const int64_t seconds = std::chrono::duration_cast<std::chrono::seconds>(
                              std::chrono::system_clock::now().time_since_epoch())
                              .count();
  // Names ascend in time, for they are read in order.
  std::string path;
  int descriptor = -1;
  for (int i = 0; descriptor < 0 && i < 1000; ++i) {
    path = folder + "/events.out.tfevents." + std::to_string(seconds + i) + ".lode";
    descriptor = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor < 0 && errno != EEXIST) break;
  }
  if (descriptor < 0) return SystemError("cannot write", path, errno);
  std::unique_ptr<EventFile> file(new EventFile(path, descriptor));
  std::string version = EventAt(0);
  AppendBytes(3, "brain.Event:2", &version);
  LODE_TRY(file->Write(version));
  // message SessionLog { SessionStatus status = 1; } with START = 1
  std::string start = EventAt(step + 1);
  AppendBytes(7, std::string("\x08\x01", 2), &start);
  LODE_TRY(file->Write(start));
  return file;
}

EventFile::~EventFile() { close(descriptor_); }

Result<void> EventFile::Write(const std::string& event) {
  return WriteAll(descriptor_, FrameRecord(event), path_);
}

// message Summary { repeated Value value = 1; }
// message Value { string tag = 1; float simple_value = 2; }
Result<void> EventFile::Append(int64_t step, std::span<const Scalar> scalars) {
  std::string summary;
  for (const Scalar& scalar : scalars) {
    std::string value;
    AppendBytes(1, scalar.tag, &value);
    AppendKey(2, kFixed32, &value);
    AppendLittleEndian(std::bit_cast<uint32_t>(static_cast<float>(scalar.value)), &value);
    AppendBytes(1, value, &summary);
  }
  std::string event = EventAt(step);
  AppendBytes(5, summary, &event);
  return Write(event);
}

}  // namespace lode::tune
