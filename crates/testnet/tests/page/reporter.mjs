// Tells the tests as they end, and the sum in a last line of the kind that cargo prints: script/test counts both alike.

export default async function* report(source) {
  let passed = 0;
  let failed = 0;
  for await (const { type, data } of source) {
    if (type === 'test:stderr' || type === 'test:stdout') yield data.message;
    if (!['test:pass', 'test:fail'].includes(type) || data.details?.type === 'suite' || /\.test\.mjs$/.test(data.name)) continue;
    const ok = type === 'test:pass';
    passed += ok;
    failed += !ok;
    yield `${ok ? '    ok' : 'FAILED'} ${(data.details.duration_ms / 1000).toFixed(1)}s ${data.name}\n`;
    if (!ok) yield `${indent(data.details.error?.cause?.stack ?? data.details.error?.stack ?? '')}\n`;
  }
  yield `test result: ${failed === 0 ? 'ok' : 'FAILED'}. ${passed} passed; ${failed} failed\n`;
}

function indent(text) {
  return String(text).replace(/^/gm, '        ');
}
