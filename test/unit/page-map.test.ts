/** Maps of pages, and the image that a standby keeps. */
import { pageMapBytes, pageMapFault, pagesIn } from '../../src/common/page-map';
import { KeptImage } from '../../src/standby/kept-image';

const PAGE = 4096;

describe('a map of pages', () => {
  test('has a bit a page, and none behind the last', () => {
    expect(pageMapBytes(64 * PAGE)).toBe(8);
    expect(pageMapBytes(77 * PAGE)).toBe(10);
    expect(pageMapFault(new Uint8Array(8).fill(0xff), 64 * PAGE)).toBeUndefined();
    expect(pageMapFault(new Uint8Array(10), 77 * PAGE)).toBeUndefined();
    const behind = new Uint8Array(10);
    behind[9] = 0x1f;
    expect(pageMapFault(behind, 77 * PAGE)).toBeUndefined();
    behind[9] = 0x20;
    expect(pageMapFault(behind, 77 * PAGE)).toMatchObject({ code: 'FT_ERR_PAGE_MAP' });
  });

  test.each([0, 7, 9, 1024])('one of %d bytes does not fit 64 pages', (bytes) => {
    expect(pageMapFault(new Uint8Array(bytes), 64 * PAGE)).toMatchObject({
      code: 'FT_ERR_PAGE_MAP',
      facts: { bytes, pages: 64 },
    });
  });

  test('counts its pages', () => {
    expect(pagesIn(Uint8Array.of(0, 1, 0x81, 0xff))).toBe(11);
  });
});

test('an image fits whoever names its session and an epoch that it has', () => {
  const image = new KeptImage();
  expect(image.fits({ session: 's', epoch: 0 })).toBe(false);
  image.keep('s', 41);
  expect(image.fits(undefined)).toBe(false);
  expect(image.fits({ session: 's', epoch: 41 })).toBe(true);
  expect(image.fits({ session: 's', epoch: 12 })).toBe(true);
  expect(image.fits({ session: 's', epoch: 42 })).toBe(false);
  expect(image.fits({ session: 't', epoch: 41 })).toBe(false);
  image.forget();
  expect(image.fits({ session: 's', epoch: 41 })).toBe(false);
});
