// Errors as values: what the world does wrong (a file, a request, a config, too little memory).
// A broken invariant of ours is a CHECK (base/check.h); nothing in Lode throws.
//
// An Error is written for a person: one sentence that says what is wrong and where, and a hint of
// what to try. Context is added on the way up, outermost first:
//   model.gguf: tensor 'blk.3.ssm_in.weight': its 1024 bytes end behind the file; try downloading it again
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "base/check.h"

namespace lode {

enum class Code {
  kBadInput,     // a file, flag or request that is wrong: exit code 2
  kNotFound,     // a file, tensor, name that is not there: exit code 2
  kUnsupported,  // understood, but Lode does not do it: exit code 2
  kNoSpace,      // memory, disk or a limit: exit code 2
  kNetwork,      // the other side or the way to it: exit code 2
  kCancelled,    // the user stopped it: exit code 130
  kInternal,     // our fault: exit code 1
};

class [[nodiscard]] Error {
 public:
  Error(Code code, std::string message, std::string hint = "")
      : code_(code), message_(std::move(message)), hint_(std::move(hint)) {}

  Code code() const { return code_; }
  const std::string& message() const { return message_; }
  const std::string& hint() const { return hint_; }

  // Puts "where: " in front of the message.
  Error& AddContext(const std::string& where) {
    message_ = where + ": " + message_;
    return *this;
  }
  Error& SetHint(std::string hint) {
    hint_ = std::move(hint);
    return *this;
  }

  // "message; hint", in one line whatever bytes the message quotes.
  std::string ToString() const;

 private:
  Code code_;
  std::string message_;
  std::string hint_;
};

// The process's exit code for an error that ends it.
int ExitCode(const Error& error);

// Either a value or an Error. Result<void> is just success or an Error.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}  // NOLINT: implicit
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT: implicit
  template <typename U>
    requires(std::is_convertible_v<U, T> && !std::is_same_v<std::remove_cvref_t<U>, Result> &&
             !std::is_same_v<std::remove_cvref_t<U>, Error> &&
             !std::is_same_v<std::remove_cvref_t<U>, T>)
  Result(U&& value) : state_(std::in_place_index<0>, std::forward<U>(value)) {}  // NOLINT: implicit

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& value() & {
    LODE_CHECK(ok());
    return std::get<0>(state_);
  }
  const T& value() const& {
    LODE_CHECK(ok());
    return std::get<0>(state_);
  }
  T&& value() && {
    LODE_CHECK(ok());
    return std::get<0>(std::move(state_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  Error& error() & {
    LODE_CHECK(!ok());
    return std::get<1>(state_);
  }
  const Error& error() const& {
    LODE_CHECK(!ok());
    return std::get<1>(state_);
  }
  Error&& error() && {
    LODE_CHECK(!ok());
    return std::get<1>(std::move(state_));
  }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT: implicit

  bool ok() const { return !error_.has_value(); }
  explicit operator bool() const { return ok(); }
  Error& error() & {
    LODE_CHECK(!ok());
    return *error_;
  }
  const Error& error() const& {
    LODE_CHECK(!ok());
    return *error_;
  }
  Error&& error() && {
    LODE_CHECK(!ok());
    return *std::move(error_);
  }

 private:
  std::optional<Error> error_;
};

}  // namespace lode

// LODE_TRY(expression): returns the error to our caller, or goes on.
#define LODE_TRY(expression)                                          \
  do {                                                                \
    if (auto lode_try_result = (expression); !lode_try_result.ok()) { \
      return std::move(lode_try_result).error();                      \
    }                                                                 \
  } while (false)

#define LODE_CONCAT_INNER(a, b) a##b
#define LODE_CONCAT(a, b) LODE_CONCAT_INNER(a, b)
// LODE_ASSIGN(declaration, expression): unpacks a Result's value, or returns its error to our caller.
#define LODE_ASSIGN(declaration, expression) \
  LODE_ASSIGN_IMPL(LODE_CONCAT(lode_assign_, __LINE__), declaration, expression)
#define LODE_ASSIGN_IMPL(temporary, declaration, expression) \
  auto temporary = (expression);                             \
  if (!temporary.ok()) return std::move(temporary).error();  \
  declaration = std::move(temporary).value()
