# cmake -DINPUT=<metallib> -DOUTPUT=<header> -DTEMPLATE=<header.in> -P EmbedMetallib.cmake
#
# Writes a header that holds the bytes of a library of shaders; EmbedShaders.cmake ends with it, for their source.

file(READ "${INPUT}" hex HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," BYTES "${hex}")
string(REGEX REPLACE "(0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,)" "\\1\n"
  BYTES "${BYTES}")
configure_file("${TEMPLATE}" "${OUTPUT}" @ONLY)
