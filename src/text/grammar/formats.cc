#include "text/grammar/formats.h"

namespace lode::text::grammar {
namespace {

constexpr const char* kLeapYear =
    "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)";

std::string Date() {
  return std::string("(?:(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])-(?:") +
         "(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|" +
         "(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))|" + kLeapYear +
         "-02-29)";
}

std::string Time() {
  return "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,9})?"
         "(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])";
}

std::string Duration() {
  const std::string time = "(?:T(?:[0-9]+H(?:[0-9]+M(?:[0-9]+S)?)?|[0-9]+M(?:[0-9]+S)?|[0-9]+S))";
  const std::string date = "(?:[0-9]+Y(?:[0-9]+M(?:[0-9]+D)?)?|[0-9]+M(?:[0-9]+D)?|[0-9]+D)";
  return "P(?:[0-9]+W|" + time + "|" + date + time + "?)";
}

// Labels of at most 63 characters, and few enough of them for 253 in all.
std::string Hostname() {
  const std::string label = "[A-Za-z0-9](?:-?[A-Za-z0-9]){0,31}";
  const std::string brief = "[A-Za-z0-9](?:-?[A-Za-z0-9]){0,12}";
  return "(?:" + label + "(?:\\." + label + "){0,2}|" + brief + "(?:\\." + brief + "){3,8})";
}

std::string Email() {
  const std::string atom = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,20}";
  return atom + "(?:\\." + atom + "){0,2}@" + Hostname();
}

std::string Ipv4() {
  const std::string octet = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
  return octet + "(?:\\." + octet + "){3}";
}

std::string Ipv6() {
  const std::string h = "[0-9A-Fa-f]{1,4}";
  const std::string last = "(?:" + h + ":" + h + "|" + Ipv4() + ")";
  const auto some = [&](int count) {
    return "(?:" + h + "(?::" + h + "){0," + std::to_string(count - 1) + "})?";
  };
  return "(?:(?:" + h + ":){6}" + last + "|::(?:" + h + ":){5}" + last + "|" + some(1) + "::(?:" +
         h + ":){4}" + last + "|" + some(2) + "::(?:" + h + ":){3}" + last + "|" + some(3) +
         "::(?:" + h + ":){2}" + last + "|" + some(4) + "::" + h + ":" + last + "|" + some(5) +
         "::" + last + "|" + some(6) + "::" + h + "|" + some(7) + "::)";
}

// RFC 3986. A reference may do without the scheme.
std::string Uri(bool reference) {
  const std::string pct = "%[0-9A-Fa-f]{2}";
  const std::string plain = "-A-Za-z0-9._~!$&'()*+,;=";
  const std::string pchar = "(?:[" + plain + ":@]|" + pct + ")";
  const std::string segments = "(?:/" + pchar + "*)*";
  const std::string host = "(?:\\[" + Ipv6() + "\\]|(?:[" + plain + "]|" + pct + ")*)";
  const std::string authority =
      "(?:(?:[" + plain + ":]|" + pct + ")*@)?" + host + "(?::[0-9]{0,5})?";
  const std::string rooted = "//" + authority + segments + "|/(?:" + pchar + "+" + segments + ")?";
  const std::string hier = "(?:" + rooted + "|" + pchar + "+" + segments + ")?";
  const std::string tail =
      "(?:\\?(?:" + pchar + "|[/?])*)?(?:#(?:" + pchar + "|[/?])*)?";
  const std::string full = "[A-Za-z][A-Za-z0-9+.-]*:" + hier + tail;
  if (!reference) return full;
  const std::string first = "(?:[" + plain + "@]|" + pct + ")+";
  return "(?:" + full + "|(?:" + rooted + "|" + first + segments + ")?" + tail + ")";
}

std::string UriTemplate() {
  const std::string literal = "(?:[A-Za-z0-9._~!$&()*+,;=:@/?#-]|%[0-9A-Fa-f]{2})";
  const std::string name = "[A-Za-z0-9_]+(?:\\.[A-Za-z0-9_]+)*(?:\\*|:[1-9][0-9]{0,3})?";
  return "(?:" + literal + "|\\{[+#./;?&]?" + name + "(?:," + name + ")*\\})*";
}

}  // namespace

std::optional<std::string> FormatPattern(std::string_view format) {
  if (format == "date") return Date();
  if (format == "time") return Time();
  if (format == "date-time") return Date() + "T" + Time();
  if (format == "duration") return Duration();
  if (format == "email" || format == "idn-email") return Email();
  if (format == "hostname" || format == "idn-hostname") return Hostname();
  if (format == "ipv4") return Ipv4();
  if (format == "ipv6") return Ipv6();
  if (format == "uri" || format == "iri") return Uri(false);
  if (format == "uri-reference" || format == "iri-reference") return Uri(true);
  if (format == "uri-template") return UriTemplate();
  if (format == "uuid")
    return "[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}";
  if (format == "json-pointer") return "(?:/(?:[^~/]|~[01])*)*";
  if (format == "relative-json-pointer") return "(?:0|[1-9][0-9]*)(?:#|(?:/(?:[^~/]|~[01])*)*)";
  return std::nullopt;
}

bool IsUnenforcedFormat(std::string_view format) { return format == "regex"; }

}  // namespace lode::text::grammar
