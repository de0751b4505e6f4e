// Where secrets are kept. None is written here: scripts/azd-postprovision makes them, so no deployment's history has one.

@minLength(3)
@maxLength(24)
param name string
param location string
param tags object

@description('Whether it can be reached from inside the virtual network, and from clientIpAddress, only.')
param isPrivate bool

@description('The address that secrets are made from, when the vault is private. Empty: none.')
param clientIpAddress string

@description('Days a deleted vault or secret can be brought back, and its name is taken.')
@minValue(7)
@maxValue(90)
param softDeleteDays int

var clientRules = empty(clientIpAddress) ? [] : [
  {
    value: clientIpAddress
  }
]
var ipRules = isPrivate ? clientRules : []

resource vault 'Microsoft.KeyVault/vaults@2025-05-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    tenantId: tenant().tenantId
    sku: {
      family: 'A'
      name: 'standard'
    }
    enableRbacAuthorization: true
    enableSoftDelete: true
    softDeleteRetentionInDays: softDeleteDays
    enablePurgeProtection: true
    publicNetworkAccess: 'Enabled'
    networkAcls: {
      // 'AzureServices' would let other subscriptions' services in that Microsoft trusts; nothing here needs them.
      bypass: 'None'
      defaultAction: isPrivate ? 'Deny' : 'Allow'
      ipRules: ipRules
    }
  }
}

output id string = vault.id
output name string = vault.name
output endpoint string = 'https://${vault.name}${environment().suffixes.keyvaultDns}'
