// The string of one field of a JSON object, decoded while the object's text comes in pieces that
// may be cut anywhere: the free text of a tool whose arguments are JSON. It checks nothing; of what
// is no such object it gives out nothing, or what looks like the string.
#pragma once

#include <string>
#include <string_view>
#include <utility>

namespace lode::serve {

class TextField {
 public:
  explicit TextField(std::string name) : name_(std::move(name)) {}

  // Reads on in the object, and returns what it tells more of the string: whole characters, where
  // no piece cuts one.
  std::string Push(std::string_view json);
  // The field is there, and is a string.
  bool begun() const { return place_ != Place::kOutside; }

 private:
  enum class Place { kOutside, kInside, kBehind };

  void Outside(char c);
  void Inside(char c, std::string* out);
  void Escape(char c, std::string* out);

  std::string name_;
  Place place_ = Place::kOutside;
  int depth_ = 0;
  bool value_ = false;   // of a field of the object itself: its colon was there
  bool string_ = false;  // in some other string
  bool skip_ = false;    // behind a backslash in it
  std::string key_;      // the last string of the object itself
  std::string escape_;   // begun, of the field: "\", "\u12", "\ud83d\u"
};

}  // namespace lode::serve
