// Numbers by step as TensorBoard reads them: an event file. Each event is a protobuf message in a
// record of TensorFlow's framing (length, its masked CRC-32C, the message, its masked CRC-32C).
// Source: tensorflow's event.proto, summary.proto and record_writer. Threads: one owner.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace lode::tune {

struct Scalar {
  std::string_view tag;  // "train/loss"
  double value;
};

class EventFile {
 public:
  // A new file in `folder`, which is made. Whatever other files there say of steps after `step` is
  // void: the run goes on from there. Errors: what the system says.
  static Result<std::unique_ptr<EventFile>> Open(const std::string& folder, int64_t step);
  ~EventFile();
  EventFile(const EventFile&) = delete;
  EventFile& operator=(const EventFile&) = delete;

  Result<void> Append(int64_t step, std::span<const Scalar> scalars);

 private:
  EventFile(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}
  Result<void> Write(const std::string& event);

  std::string path_;
  int descriptor_;
};

// The Castagnoli polynomial's cyclic redundancy check (RFC 3720, appendix B.4).
uint32_t Crc32c(std::string_view bytes);
// A message in its frame.
std::string FrameRecord(std::string_view message);

}  // namespace lode::tune
