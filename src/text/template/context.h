// What one render needs while it runs: limits, counters, the error, the clock, and the makers of
// values (which charge the budget). One per Render call, on one thread. Internal.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/template/civil_time.h"
#include "text/template/value.h"

namespace lode::text::jinja {

struct Limits {
  uint64_t steps_max = 20'000'000;
  size_t output_bytes_max = 64u << 20;  // also of any single string
  size_t memory_bytes_max = 512u << 20;
  int call_depth_max = 200;       // macros in macros
  int value_depth_max = 400;      // lists in lists
  size_t stack_bytes_max = 3u << 20;
};

enum class Failure { kTemplate, kRaised, kLimit };

class Context {
 public:
  Context(const Limits& limits, const CivilTime& now);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  // Records the first error; always false.
  bool Fail(std::string message, Failure kind = Failure::kTemplate);
  bool failed() const { return failed_; }
  const std::string& error() const { return error_; }
  Failure failure() const { return failure_; }

  // Counts work: one step and one more for every 64 bytes (or items) touched.
  bool Step(size_t size = 0) {
    steps_ += 1 + size / 64;
    return steps_ <= limits_.steps_max || FailSteps();
  }
  // False when the C++ stack is used up; `what` is for the sentence.
  bool CheckStack();
  bool EnterCall();
  void LeaveCall() { --call_depth_; }

  const Limits& limits() const { return limits_; }
  const CivilTime& now() const { return now_; }
  int line = 0;  // of the statement that runs

  // --- makers; those that can exceed a limit return false ---
  Value Text(std::string_view text, bool input = false);  // small literals of the engine
  bool Make(std::string bytes, std::vector<ByteSpan> input, bool safe, Value* out);
  bool MakeList(std::vector<Value> items, Value* out, Type type = Type::kList);
  bool MakeDict(Ref<Dict> dict, Value* out);
  // Charges an object of ours (an iterator, a namespace) and wraps it.
  bool Adopt(Type type, Object* object, size_t bytes, int depth, Value* out);
  Value Undefined(std::string hint);
  Value UndefinedName(std::string_view name);
  Value NoAttribute(const Value& owner, std::string_view name);
  Value NoItem(const Value& owner, const Value& key);
  Value Refused(const Value& owner, std::string_view name);

  // Objects that may be part of a cycle; they are emptied, one by one, at the end of the render.
  void KeepNamespace(Namespace* object) { namespaces_.push_back(object); }
  void KeepScope(Object* scope, void (*empty)(Object*)) { scopes_.push_back({scope, empty}); }
  bool HasMemory(size_t more);

 private:
  bool FailSteps();

  Limits limits_;
  CivilTime now_;
  Budget budget_;
  uint64_t steps_ = 0;
  int call_depth_ = 0;
  const char* stack_base_;
  bool failed_ = false;
  Failure failure_ = Failure::kTemplate;
  std::string error_;
  std::vector<Ref<Namespace>> namespaces_;
  struct Kept {
    Ref<Object> object;
    void (*empty)(Object*);
  };
  std::vector<Kept> scopes_;
};

// Builds a string piece by piece and keeps account of where its bytes come from. Growth beyond the
// limit is noted and reported by Finish; nothing is allocated for it.
class Builder {
 public:
  explicit Builder(Context* context) : context_(context) {}

  void Literal(std::string_view text, bool input = false);
  void Append(const Str& piece) { Append(piece, 0, piece.bytes.size()); }
  void Append(const Str& piece, size_t begin, size_t end);
  void Char(char32_t code_point, bool input);
  bool overflow() const { return overflow_; }
  size_t size() const { return bytes_.size(); }
  bool Finish(Value* out, bool safe = false);

  std::string& bytes() { return bytes_; }
  std::vector<ByteSpan>& input() { return input_; }

 private:
  void MarkInput(size_t begin, size_t end);

  Context* context_;
  std::string bytes_;
  std::vector<ByteSpan> input_;
  bool overflow_ = false;
};

// True when byte `at` came from the request.
bool IsInput(const Str& text, size_t at);

}  // namespace lode::text::jinja
