/** Owns what the page has a wallet do; loaded, with all it brings along, when a person asks for a wallet. */
import { deviceKey } from '../../store/deviceKey.ts'
import { openDevice } from '../../store/device.ts'
import { bindDevice, revokeDevices } from '../../wallet/binding.ts'
import { connectWallets, signRemark, signText } from '../../wallet/extension.ts'
import { identity } from './account.ts'
import type { RemarkPayload } from '../../protocol/wallet.ts'
import type { WalletAccess } from './walletLink.svelte.ts'

export const walletAccess: WalletAccess = {
  accounts: async () => connectWallets(await identity.ss58Prefix()),

  async carryOut({ purpose, account, device, byRemark }, signal, said) {
    const options = {
      api: identity,
      site: location.host,
      account,
      async sign(by: typeof account, text: string) {
        signal.throwIfAborted()
        said(text)
        const signature = await signText(by, text)
        signal.throwIfAborted()
        return signature
      },
      ...(byRemark && { byRemark }),
      async signPayload(by: typeof account, payload: RemarkPayload, text: string) {
        signal.throwIfAborted()
        said(text)
        const signature = await signRemark(by, payload)
        signal.throwIfAborted()
        return signature
      },
    }
    if (purpose === 'bind') await bindDevice(options, deviceKey((await openDevice()).identity))
    else await revokeDevices(options, [device])
  },
}
