// Reads the tools of a request, given as JSON, for the parsers. Apart from tool_schemas.h so that
// only those who hold JSON compile it.
#pragma once

#include "base/json.h"
#include "text/parsers/tool_schemas.h"

namespace lode::text {

// `tools` is a list in any of the common shapes:
// {"type":"function","function":{"name","parameters"}},
// {"name","parameters"} or {"name","input_schema"}. Entries of other shapes (built-in tools of a
// client) are passed over. Errors: none; a schema that cannot be read makes its parameter a string.
ToolSchemas ToolSchemasFromJson(const Json& tools);

}  // namespace lode::text
