# How node-gyp builds the native addon: every C++ file of the six rooms under native/, one target.
#
# Our own sources must be free of warnings (-Werror); the headers of Node and node-addon-api are not
# ours, so they come in as system headers (-isystem). Node's own defaults (its older C++ standard,
# -O3, no unused-parameter warning) are taken out again below.
{
  "variables": {
    "napi_include": "<!(node -p \"require('node:path').resolve(require('node-addon-api').include_dir)\")",
    "node_include": "<!(node -p \"require('node:path').join('<(node_root_dir)', 'include', 'node')\")",
  },
  "targets": [
    {
      "target_name": "romulus",
      "sources": ["<!@(tools/native-sources)"],
      "include_dirs": ["native"],
      "defines": ["NAPI_VERSION=9", "NAPI_DISABLE_CPP_EXCEPTIONS", "NODE_ADDON_API_DISABLE_DEPRECATED"],
      "cflags!": ["-Wno-unused-parameter", "-O3"],
      "cflags_cc!": ["-std=gnu++17", "-std=gnu++20", "-fno-rtti"],
      "cflags_cc": [
        "-std=c++20",
        "-O2",
        "-g",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-fno-exceptions",
        "-fvisibility=hidden",
        "-isystem",
        "<(napi_include)",
        "-isystem",
        "<(node_include)",
      ],
      "ldflags": ["-Wl,-z,now", "-Wl,-z,relro"],
    }
  ],
}
